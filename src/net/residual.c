/* Residual blocks. */
#include "net/residual.h"

#include <stdio.h>

conv oas_bind_conv(parameter_set *w, int out, int in, const char *name)
{
    conv c;
    c.weight = oas_parameter(w, OAS_MATRIX, OAS_SHAPE4(out, in, 3, 3), "%s.weight", name);
    c.bias = oas_parameter(w, OAS_VECTOR, OAS_SHAPE1(out), "%s.bias", name);
    return c;
}

linear oas_bind_1x1(parameter_set *w, int out, int in, const char *name)
{
    linear l;
    l.weight = oas_parameter(w, OAS_MATRIX, OAS_SHAPE4(out, in, 1, 1), "%s.weight", name);
    l.bias = oas_parameter(w, OAS_VECTOR, OAS_SHAPE1(out), "%s.bias", name);
    return l;
}

residual oas_bind_residual(parameter_set *w, int channels, int frames, const char *name)
{
    char conv1[OAS_PARAMETER_NAME], conv2[OAS_PARAMETER_NAME];
    snprintf(conv1, sizeof conv1, "%s.conv1", name);
    snprintf(conv2, sizeof conv2, "%s.conv2", name);
    return (residual){oas_bind_conv(w, channels, frames * channels, conv1), oas_bind_conv(w, channels, channels, conv2)};
}

tensor *oas_residual(graph *g, const residual *r, tensor *last, tensor *x)
{
    size_t mark = oas_graph_mark(g);
    tensor *y = oas_conv(g, x, &r->conv1, last, OAS_SILU, NULL);
    return oas_graph_keep(g, oas_conv(g, y, &r->conv2, NULL, OAS_LINEAR, x), mark);
}
