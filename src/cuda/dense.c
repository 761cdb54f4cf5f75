/*
 * Products by cuBLASLt.
 *
 * cuBLASLt counts by columns: a row-major y [rows, columns] is its matrix of `columns` x `rows`, so y = a b is asked for as
 * y^T = b^T a^T, with b as the first factor.  How a product is best computed is asked once per shape, and kept.
 */
#include "cuda/dense.h"

#include "base/memory.h"
#include "cuda/plans.h"
#include "tensor/ops.h"

#include <cublasLt.h>
#include <cuda_runtime_api.h>

enum { WORKSPACE = 64 << 20 };

/* What a plan depends on; in a key, in this order. */
enum { ROWS, COLUMNS, DEPTH, TYPE, Y_TYPE, A_TURNED, B_TURNED, ACT, ADD, BIAS, ALIGNMENT };

typedef struct plan {
    cuda_plan base;
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t first, second, result; /* b, a, y */
    cublasLtMatmulAlgo_t algorithm;
} plan;

typedef struct dense_state {
    cublasLtHandle_t library;
    void *workspace;
    cuda_plans plans;
} dense_state;

static void clear_plan(void *q)
{
    plan *p = q;
    if (p->product)
        cublasLtMatmulDescDestroy(p->product);
    if (p->first)
        cublasLtMatrixLayoutDestroy(p->first);
    if (p->second)
        cublasLtMatrixLayoutDestroy(p->second);
    if (p->result)
        cublasLtMatrixLayoutDestroy(p->result);
}

static bool make_plan(void *library, void *q);

static dense_state *state_of(oas_cuda *c)
{
    if (c->dense)
        return c->dense;
    dense_state *s = oas_alloc(1, sizeof *s);
    if (!s)
        return NULL;
    c->dense = s;
    s->plans = (cuda_plans){.bytes = sizeof(plan), .make = make_plan, .clear = clear_plan};
    s->workspace = oas_cuda_alloc(c, WORKSPACE);
    if (!s->workspace || cublasLtCreate(&s->library) != CUBLAS_STATUS_SUCCESS) {
        oas_cuda_dense_free(c);
        return NULL;
    }
    return s;
}

void oas_cuda_dense_free(oas_cuda *c)
{
    dense_state *s = c->dense;
    if (!s)
        return;
    oas_cuda_plans_free(&s->plans);
    if (s->library)
        cublasLtDestroy(s->library);
    oas_cuda_release(c, s->workspace);
    oas_free(s);
    c->dense = NULL;
}

static bool fuses(int32_t act)
{
    return act == OAS_LINEAR || act == OAS_GELU_TANH || act == OAS_RELU;
}

static cudaDataType_t library_type(int64_t type)
{
    return type == 0 ? CUDA_R_32F : CUDA_R_16BF;
}

static cublasLtEpilogue_t epilogue(const int64_t *k)
{
    switch (k[ACT]) {
    case OAS_GELU_TANH: return k[BIAS] ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
    case OAS_RELU: return k[BIAS] ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_RELU;
    default: return k[BIAS] ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    }
}

/* A row-major matrix [rows, columns] as the library sees it. */
static bool make_layout(cublasLtMatrixLayout_t *layout, int64_t type, int64_t rows, int64_t columns)
{
    return cublasLtMatrixLayoutCreate(layout, library_type(type), (uint64_t)columns, (uint64_t)rows, columns) ==
           CUBLAS_STATUS_SUCCESS;
}

static bool set(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t what, const void *value, size_t bytes)
{
    return cublasLtMatmulDescSetAttribute(d, what, value, bytes) == CUBLAS_STATUS_SUCCESS;
}

static bool describe(plan *p)
{
    const int64_t *k = p->base.key.number;
    const cublasOperation_t first = k[B_TURNED] ? CUBLAS_OP_T : CUBLAS_OP_N,
                            second = k[A_TURNED] ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasLtEpilogue_t after = epilogue(k);
    return cublasLtMatmulDescCreate(&p->product, CUBLAS_COMPUTE_32F, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS &&
           set(p->product, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first) &&
           set(p->product, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second) &&
           set(p->product, CUBLASLT_MATMUL_DESC_EPILOGUE, &after, sizeof after) &&
           (k[B_TURNED] ? make_layout(&p->first, k[TYPE], k[COLUMNS], k[DEPTH])
                        : make_layout(&p->first, k[TYPE], k[DEPTH], k[COLUMNS])) &&
           (k[A_TURNED] ? make_layout(&p->second, k[TYPE], k[DEPTH], k[ROWS])
                        : make_layout(&p->second, k[TYPE], k[ROWS], k[DEPTH])) &&
           make_layout(&p->result, k[Y_TYPE], k[ROWS], k[COLUMNS]);
}

/* Asks the library how to compute it; only ways whose sums have a fixed order. */
static bool choose(dense_state *s, plan *p)
{
    cublasLtMatmulPreference_t wish = NULL;
    cublasLtMatmulHeuristicResult_t found = {0};
    const uint64_t workspace = WORKSPACE;
    const uint32_t alignment = (uint32_t)p->base.key.number[ALIGNMENT];
    const uint32_t sums = CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    int n = 0;
    bool ok = cublasLtMatmulPreferenceCreate(&wish) == CUBLAS_STATUS_SUCCESS;
    const struct {
        cublasLtMatmulPreferenceAttributes_t what;
        const void *value;
        size_t bytes;
    } settings[] = {
        {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace},
        {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &sums, sizeof sums},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &alignment, sizeof alignment},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &alignment, sizeof alignment},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &alignment, sizeof alignment},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &alignment, sizeof alignment},
    };
    for (size_t i = 0; ok && i < sizeof settings / sizeof *settings; i++)
        ok = cublasLtMatmulPreferenceSetAttribute(wish, settings[i].what, settings[i].value, settings[i].bytes) ==
             CUBLAS_STATUS_SUCCESS;
    ok = ok && cublasLtMatmulAlgoGetHeuristic(s->library, p->product, p->first, p->second, p->result, p->result, wish,
                                              1, &found, &n) == CUBLAS_STATUS_SUCCESS;
    if (wish)
        cublasLtMatmulPreferenceDestroy(wish);
    if (!ok || n == 0 || found.state != CUBLAS_STATUS_SUCCESS)
        return false;
    p->algorithm = found.algo;
    return true;
}

/* The largest power of two up to 16 that divides all addresses. */
static int32_t alignment_of(const cuda_product *p)
{
    uintptr_t bits = (uintptr_t)p->a | (uintptr_t)p->b | (uintptr_t)p->y | (uintptr_t)p->bias | 16;
    return (int32_t)(bits & (~bits + 1));
}

static bool make_plan(void *library, void *q)
{
    return describe(q) && choose(library, q);
}

static plan *find_plan(dense_state *s, const cuda_product *p)
{
    const cuda_plan_key key = {{[ROWS] = p->rows,
                                [COLUMNS] = p->columns,
                                [DEPTH] = p->depth,
                                [TYPE] = p->type,
                                [Y_TYPE] = p->y_type,
                                [A_TURNED] = p->a_turned != 0,
                                [B_TURNED] = p->b_turned != 0,
                                [ACT] = p->act,
                                [ADD] = p->add != 0,
                                [BIAS] = p->bias != NULL,
                                [ALIGNMENT] = alignment_of(p)}};
    return oas_cuda_plan(&s->plans, &key, s);
}

static oasis_status product(oas_cuda *c, const cuda_product *p)
{
    if (p->rows == 0 || p->columns == 0)
        return OASIS_OK;
    dense_state *s = state_of(c);
    plan *q = s ? find_plan(s, p) : NULL;
    if (!q || (p->bias && !set(q->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p->bias, sizeof p->bias)))
        return OASIS_E_DEVICE;
    const float one = 1, add = p->add ? 1 : 0;
    cublasStatus_t status =
        cublasLtMatmul(s->library, q->product, &one, p->b, q->first, p->a, q->second, &add, p->y, q->result, p->y,
                       q->result, &q->algorithm, s->workspace, WORKSPACE, (cudaStream_t)c->stream);
    return status == CUBLAS_STATUS_SUCCESS ? OASIS_OK : OASIS_E_DEVICE;
}

const struct cuda_dense oas_cuda_dense = {.fuses = fuses, .product = product};
