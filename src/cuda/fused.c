/*
 * Fused attention by cuDNN's graphs of one operation (its "unified" scaled dot product attention, from 9.13.1 on).  How a
 * shape is best computed is asked once, and kept; also that there is no way.
 */
#include "cuda/fused.h"

#include "cuda/dnn.h"

enum { LEAST_CUDNN = 91301 }; /* version of the library, as cudnnGetVersion counts */

#if CUDNN_VERSION >= 91301

enum { WORKSPACE = 32 << 20, MOST_WAYS = 8, MOST_NODES = 16 };

/* What a plan depends on; in a key, in this order. */
enum { SEGMENTS, HEADS, ROWS, KEYS, HEAD_DIM, STRIDE, HEAD_STEP, LSE_STEP };

/* Names of arrays in a graph. */
enum { Q = 1, K, V, OUT, SCALE, LSE };

typedef struct plan {
    cuda_plan base;
    cudnnBackendDescriptor_t node[MOST_NODES]; /* all that were made, in that order */
    int nodes;
    cudnnBackendDescriptor_t run; /* one of them; NULL: there is no way */
} plan;

/* ---- descriptors ------------------------------------------------------------------------------------------------------ */

/* A new descriptor of the plan; NULL after a failure. */
static cudnnBackendDescriptor_t node(plan *p, cudnnBackendDescriptorType_t type)
{
    cudnnBackendDescriptor_t *at = &p->node[p->nodes];
    if (p->nodes == MOST_NODES || cudnnBackendCreateDescriptor(type, at) != CUDNN_STATUS_SUCCESS)
        return NULL;
    p->nodes++;
    return *at;
}

static bool set(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                int64_t count, const void *values)
{
    return d && cudnnBackendSetAttribute(d, name, type, count, values) == CUDNN_STATUS_SUCCESS;
}

static bool set_node(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name, cudnnBackendDescriptor_t value)
{
    return value && set(d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

static bool finish(cudnnBackendDescriptor_t d)
{
    return cudnnBackendFinalize(d) == CUDNN_STATUS_SUCCESS;
}

/* An array of segments, heads, rows and channels; NULL after a failure. */
static cudnnBackendDescriptor_t array(plan *p, int64_t name, cudnnDataType_t type, const int64_t size[4],
                                      const int64_t step[4])
{
    const int64_t alignment = type == CUDNN_DATA_BFLOAT16 ? 16 : 4;
    const bool by_value = name == SCALE;
    cudnnBackendDescriptor_t d = node(p, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    return set(d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &name) &&
                   set(d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type) &&
                   set(d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment) &&
                   set(d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, size) &&
                   set(d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, step) &&
                   set(d, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &by_value) && finish(d)
               ? d
               : NULL;
}

static cudnnBackendDescriptor_t operation(plan *p)
{
    const int64_t *n = p->base.key.number, one[4] = {1, 1, 1, 1};
    const int64_t queries[4] = {n[SEGMENTS], n[HEADS], n[ROWS], n[HEAD_DIM]};
    const int64_t query_steps[4] = {n[ROWS] * n[STRIDE], n[HEAD_STEP], n[STRIDE], 1};
    const int64_t keys[4] = {n[SEGMENTS], n[HEADS], n[KEYS], n[HEAD_DIM]};
    const int64_t key_steps[4] = {n[KEYS] * n[STRIDE], n[HEAD_STEP], n[STRIDE], 1};
    const int64_t sums[4] = {n[SEGMENTS], n[HEADS], n[ROWS], 1}, sum_steps[4] = {n[ROWS], n[LSE_STEP], 1, 1};
    cudnnBackendDescriptor_t q = array(p, Q, CUDNN_DATA_BFLOAT16, queries, query_steps),
                             k = array(p, K, CUDNN_DATA_BFLOAT16, keys, key_steps),
                             v = array(p, V, CUDNN_DATA_BFLOAT16, keys, key_steps),
                             out = array(p, OUT, CUDNN_DATA_BFLOAT16, queries, query_steps),
                             scale = array(p, SCALE, CUDNN_DATA_FLOAT, one, one),
                             d = node(p, CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR);
    bool ok =
        set_node(d, CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC, q) && set_node(d, CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC, k) &&
        set_node(d, CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC, v) && set_node(d, CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC, out) &&
        set_node(d, CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC, scale);
    if (n[LSE_STEP] > 0)
        ok = ok &&
             set_node(d, CUDNN_ATTR_OPERATION_SDPA_FWD_STATSDESC, array(p, LSE, CUDNN_DATA_FLOAT, sums, sum_steps));
    return ok && finish(d) ? d : NULL;
}

/* Takes the first way that the library proposes and that needs no more than the workspace. */
static void choose(plan *p, cudnnHandle_t library, cudnnBackendDescriptor_t proposals)
{
    cudnnBackendDescriptor_t way[MOST_WAYS] = {NULL};
    int64_t ways = 0;
    for (int i = 0; i < MOST_WAYS; i++)
        if (cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &way[i]) != CUDNN_STATUS_SUCCESS)
            way[i] = NULL;
    cudnnBackendGetAttribute(proposals, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, MOST_WAYS, &ways,
                             way);
    for (int64_t i = 0; i < ways && i < MOST_WAYS && !p->run; i++) {
        cudnnBackendDescriptor_t d = node(p, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
        int64_t bytes = 0, count = 0;
        if (set(d, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &library) &&
            set_node(d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, way[i]) && finish(d) &&
            cudnnBackendGetAttribute(d, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &count,
                                     &bytes) == CUDNN_STATUS_SUCCESS &&
            bytes <= WORKSPACE)
            p->run = d;
    }
    for (int i = 0; i < MOST_WAYS; i++)
        if (way[i])
            cudnnBackendDestroyDescriptor(way[i]);
}

static bool make_plan(void *library, void *q)
{
    plan *p = q;
    const dnn_state *s = library;
    const cudnnBackendHeurMode_t mode = CUDNN_HEUR_MODE_A;
    cudnnBackendDescriptor_t attention = operation(p), graph, proposals;
    if (!attention)
        return true;
    graph = node(p, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    if (!set_node(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, attention) ||
        !set(graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &s->library) || !finish(graph))
        return true;
    proposals = node(p, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    if (set_node(proposals, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph) &&
        set(proposals, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode) && finish(proposals))
        choose(p, s->library, proposals);
    return true;
}

static void clear_plan(void *q)
{
    plan *p = q;
    while (p->nodes > 0)
        cudnnBackendDestroyDescriptor(p->node[--p->nodes]);
}

/* ---- running ------------------------------------------------------------------------------------------------------------ */

static dnn_state *state_of(oas_cuda *c)
{
    return oas_dnn_state(c, &c->fused, WORKSPACE,
                         (cuda_plans){.bytes = sizeof(plan), .make = make_plan, .clear = clear_plan});
}

void oas_cuda_fused_free(oas_cuda *c)
{
    oas_dnn_free(c, &c->fused);
}

static oasis_status run(const dnn_state *s, const plan *p, const cuda_fused *f)
{
    static const int64_t names[] = {Q, K, V, OUT, SCALE, LSE};
    float scale = f->scale; /* read at once */
    void *at[] = {(void *)(uintptr_t)f->q, (void *)(uintptr_t)f->k, (void *)(uintptr_t)f->v, f->out, &scale, f->lse};
    int64_t count = f->lse ? 6 : 5;
    cudnnBackendDescriptor_t arrays = NULL;
    if (cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &arrays) != CUDNN_STATUS_SUCCESS)
        return OASIS_E_DEVICE;
    bool ok = set(arrays, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, names) &&
              set(arrays, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count, at) &&
              set(arrays, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &s->workspace) && finish(arrays) &&
              cudnnBackendExecute(s->library, p->run, arrays) == CUDNN_STATUS_SUCCESS;
    cudnnBackendDestroyDescriptor(arrays);
    return ok ? OASIS_OK : OASIS_E_DEVICE;
}

oasis_status oas_cuda_fused(oas_cuda *c, const cuda_fused *f)
{
    if (cudnnGetVersion() < LEAST_CUDNN)
        return OASIS_E_UNSUPPORTED;
    const cuda_plan_key key = {{[SEGMENTS] = f->segments,
                                [HEADS] = f->heads,
                                [ROWS] = f->rows,
                                [KEYS] = f->keys,
                                [HEAD_DIM] = f->head_dim,
                                [STRIDE] = f->stride,
                                [HEAD_STEP] = f->head_step,
                                [LSE_STEP] = f->lse ? f->lse_step : 0}};
    dnn_state *s = state_of(c);
    const plan *p = s ? oas_cuda_plan(&s->plans, &key, s) : NULL;
    if (!p)
        return OASIS_E_DEVICE;
    return p->run ? run(s, p, f) : OASIS_E_UNSUPPORTED;
}

#else

oasis_status oas_cuda_fused(oas_cuda *c, const cuda_fused *f)
{
    (void)c, (void)f;
    return OASIS_E_UNSUPPORTED;
}

void oas_cuda_fused_free(oas_cuda *c)
{
    (void)c;
}

#endif
