/*
 * Between a graph on a GPU and the host: nodes whose weights lie in host memory, and ops that have no CUDA function.
 * For graph.c and backward.c.
 */
#ifndef OAS_TENSOR_OFFLOAD_H
#define OAS_TENSOR_OFFLOAD_H

#include "tensor/graph.h"

/* A node with device stand-ins for inputs that lie in host memory. */
typedef struct device_node {
    node node;
    tensor stand_in[OAS_MAX_INPUTS];
} device_node;

/*
 * Weights that stay as they are get a copy on the device once, kept with them; other inputs one in scratch.  Takes the
 * same scratch while the graph plans.
 */
oasis_status oas_node_to_device(graph *g, const node *n, device_node *d);

/*
 * Runs a node on the host by a graph of its own: copies inputs there, computes by `run`, copies the output and what is
 * kept for backward (or the gradients) back.  Takes no storage of g.
 */
oasis_status oas_forward_on_host(graph *g, const node *n, oasis_status (*run)(graph *host, node *n));
oasis_status oas_backward_on_host(graph *g, const node *n, oasis_status (*run)(graph *host, const node *n));

/* seed += cotangent, or 1 where that is NULL. */
oasis_status oas_add_on_host(graph *g, tensor *seed, const tensor *cotangent);

#endif
