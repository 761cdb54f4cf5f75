/* oneDNN 2.6 to 2.7 behind cpu/dnnl.h. */
#include "cpu/dnnl.h"

#include "base/filemap.h"
#include "cpu/level.h"
#include "tensor/pack.h"

#include <omp.h>
#include <oneapi/dnnl/dnnl.h>
#include <string.h>

#define OAS_STRING2(x) #x
#define OAS_STRING(x) OAS_STRING2(x)

struct dnnl_job {
    dnnl_spec spec;
    dnnl_primitive_t primitive;
    dnnl_memory_desc_t x, w, bias, y, scratch;
    dnnl_job *next;
};

enum { JOB_BUCKETS = 64 };

struct dnnl_cache {
    dnnl_engine_t engine;
    dnnl_stream_t *streams; /* one per worker */
    int workers;
    dnnl_job *jobs[JOB_BUCKETS];
};

const char *oas_dnnl_version(void)
{
    return OAS_STRING(DNNL_VERSION_MAJOR) "." OAS_STRING(DNNL_VERSION_MINOR) "." OAS_STRING(DNNL_VERSION_PATCH);
}

oasis_status oas_dnnl_new(dnnl_cache **out, int workers, int level, oasis_message *message)
{
    /* Has an effect only before oneDNN's first primitive in this process; later the cap stays as it was. */
    if (level == OAS_LEVEL_AVX2)
        dnnl_set_max_cpu_isa(dnnl_cpu_isa_avx2);
    else if (level == OAS_LEVEL_AVX512)
        dnnl_set_max_cpu_isa(dnnl_cpu_isa_avx512_core_vnni);
    else if (level == OAS_LEVEL_AVX512BF16)
        dnnl_set_max_cpu_isa(dnnl_cpu_isa_avx512_core_bf16);
    dnnl_cache *c = oas_alloc(1, sizeof *c);
    if (!c)
        return oas_fail_memory(message, sizeof *c, "oneDNN's jobs");
    c->workers = workers;
    c->streams = oas_alloc((size_t)workers, sizeof *c->streams);
    if (!c->streams) {
        oas_dnnl_free(&c);
        return oas_fail_memory(message, (size_t)workers * sizeof *c->streams, "oneDNN's streams");
    }
    bool ok = dnnl_engine_create(&c->engine, dnnl_cpu, 0) == dnnl_success;
    for (int i = 0; ok && i < workers; i++)
        ok = dnnl_stream_create(&c->streams[i], c->engine, dnnl_stream_in_order) == dnnl_success;
    if (!ok) {
        oas_dnnl_free(&c);
        return oas_fail(message, OASIS_E_DEVICE, "oneDNN cannot start on this CPU");
    }
    *out = c;
    return OASIS_OK;
}

void oas_dnnl_free(dnnl_cache **out)
{
    dnnl_cache *c = *out;
    if (!c)
        return;
    for (int b = 0; b < JOB_BUCKETS; b++) {
        for (dnnl_job *j = c->jobs[b], *next; j; j = next) {
            next = j->next;
            dnnl_primitive_destroy(j->primitive);
            oas_free(j);
        }
    }
    for (int i = 0; c->streams && i < c->workers; i++)
        if (c->streams[i])
            dnnl_stream_destroy(c->streams[i]);
    if (c->engine)
        dnnl_engine_destroy(c->engine);
    oas_free(c->streams);
    oas_free(c);
    *out = NULL;
}

static dnnl_data_type_t data_type(int dtype)
{
    return dtype == OAS_F32 ? dnnl_f32 : dnnl_bf16;
}

static bool set_attributes(dnnl_primitive_attr_t attr, const dnnl_spec *s)
{
    static const dnnl_alg_kind_t kinds[OAS_ACTIVATIONS] = {[OAS_GELU_TANH] = dnnl_eltwise_gelu_tanh,
                                                           [OAS_SILU] = dnnl_eltwise_swish,
                                                           [OAS_RELU] = dnnl_eltwise_relu};
    dnnl_post_ops_t ops = NULL;
    bool ok = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user) == dnnl_success &&
              dnnl_post_ops_create(&ops) == dnnl_success;
    if (ok && s->act != OAS_LINEAR)
        ok = dnnl_post_ops_append_eltwise(ops, 1.f, kinds[s->act], s->act == OAS_SILU ? 1.f : 0.f, 0.f) == dnnl_success;
    if (ok && s->residual)
        ok = dnnl_post_ops_append_sum(ops, 1.f) == dnnl_success;
    ok = ok && dnnl_primitive_attr_set_post_ops(attr, ops) == dnnl_success;
    if (ops)
        dnnl_post_ops_destroy(ops);
    return ok;
}

/* The primitive descriptor of a dense product. */
static bool describe_dense(dnnl_job *j, const_dnnl_primitive_attr_t attr, dnnl_engine_t engine,
                           dnnl_primitive_desc_t *pd)
{
    const dnnl_spec *s = &j->spec;
    dnnl_dims_t x = {s->rows, s->in}, w = {s->in, s->out}, b = {1, s->out}, y = {s->rows, s->out};
    dnnl_matmul_desc_t d;
    return dnnl_memory_desc_init_by_tag(&j->x, 2, x, data_type(s->in_type), dnnl_ab) == dnnl_success &&
           dnnl_memory_desc_init_by_tag(&j->w, 2, w, data_type(s->in_type), dnnl_format_tag_any) == dnnl_success &&
           dnnl_memory_desc_init_by_tag(&j->bias, 2, b, dnnl_f32, dnnl_ab) == dnnl_success &&
           dnnl_memory_desc_init_by_tag(&j->y, 2, y, data_type(s->out_type), dnnl_ab) == dnnl_success &&
           dnnl_matmul_desc_init(&d, &j->x, &j->w, s->bias ? &j->bias : NULL, &j->y) == dnnl_success &&
           dnnl_primitive_desc_create(pd, &d, attr, engine, NULL) == dnnl_success;
}

/* The primitive descriptor of a convolution over a strip of rows. */
static bool describe_conv(dnnl_job *j, const_dnnl_primitive_attr_t attr, dnnl_engine_t engine,
                          dnnl_primitive_desc_t *pd)
{
    const dnnl_spec *s = &j->spec;
    dnnl_dims_t x = {1, s->in, s->rows, s->width}, w = {s->out, s->in, s->kernel, s->kernel}, b = {s->out};
    dnnl_dims_t y = {1, s->out, s->rows - (s->kernel - 1) + s->pad_top + s->pad_bottom, s->width};
    dnnl_dims_t stride = {1, 1}, before = {s->pad_top, s->kernel / 2}, after = {s->pad_bottom, s->kernel / 2};
    dnnl_convolution_desc_t d;
    return dnnl_memory_desc_init_by_tag(&j->x, 4, x, data_type(s->in_type), dnnl_nhwc) == dnnl_success &&
           dnnl_memory_desc_init_by_tag(&j->w, 4, w, data_type(s->in_type), dnnl_format_tag_any) == dnnl_success &&
           dnnl_memory_desc_init_by_tag(&j->bias, 1, b, dnnl_f32, dnnl_a) == dnnl_success &&
           dnnl_memory_desc_init_by_tag(&j->y, 4, y, data_type(s->out_type), dnnl_nhwc) == dnnl_success &&
           dnnl_convolution_forward_desc_init(&d, dnnl_forward_inference, dnnl_convolution_direct, &j->x, &j->w,
                                              s->bias ? &j->bias : NULL, &j->y, stride, before, after) == dnnl_success &&
           dnnl_primitive_desc_create(pd, &d, attr, engine, NULL) == dnnl_success;
}

/* e^T x as a product whose first factor is read by columns. */
static bool describe_dense_gradient(dnnl_job *j, const_dnnl_primitive_attr_t attr, dnnl_engine_t engine,
                                    dnnl_primitive_desc_t *pd)
{
    const dnnl_spec *s = &j->spec;
    dnnl_dims_t e = {s->out, s->rows}, by_columns = {1, s->width}, x = {s->rows, s->in}, y = {s->out, s->in};
    dnnl_matmul_desc_t d;
    return dnnl_memory_desc_init_by_strides(&j->x, 2, e, data_type(s->in_type), by_columns) == dnnl_success &&
           dnnl_memory_desc_init_by_tag(&j->w, 2, x, data_type(s->in_type), dnnl_ab) == dnnl_success &&
           dnnl_memory_desc_init_by_tag(&j->y, 2, y, dnnl_f32, dnnl_ab) == dnnl_success &&
           dnnl_matmul_desc_init(&d, &j->x, &j->w, NULL, &j->y) == dnnl_success &&
           dnnl_primitive_desc_create(pd, &d, attr, engine, NULL) == dnnl_success;
}

/* A product of two matrices as they lie. */
static bool describe_plain(dnnl_job *j, const_dnnl_primitive_attr_t attr, dnnl_engine_t engine, dnnl_primitive_desc_t *pd)
{
    const dnnl_spec *s = &j->spec;
    dnnl_dims_t x = {s->rows, s->in}, w = {s->in, s->out}, y = {s->rows, s->out};
    dnnl_format_tag_t order = s->product == OAS_TIMES_TRANSPOSED ? dnnl_ba : dnnl_ab;
    dnnl_matmul_desc_t d;
    return dnnl_memory_desc_init_by_tag(&j->x, 2, x, data_type(s->in_type), dnnl_ab) == dnnl_success &&
           dnnl_memory_desc_init_by_tag(&j->w, 2, w, data_type(s->in_type), order) == dnnl_success &&
           dnnl_memory_desc_init_by_tag(&j->y, 2, y, data_type(s->out_type), dnnl_ab) == dnnl_success &&
           dnnl_matmul_desc_init(&d, &j->x, &j->w, NULL, &j->y) == dnnl_success &&
           dnnl_primitive_desc_create(pd, &d, attr, engine, NULL) == dnnl_success;
}

/* oneDNN wants to see a forward primitive first. */
static bool describe_conv_gradient(dnnl_job *j, const_dnnl_primitive_attr_t attr, dnnl_engine_t engine,
                                   dnnl_primitive_desc_t *pd)
{
    const dnnl_spec *s = &j->spec;
    dnnl_dims_t x = {1, s->in, s->rows, s->width}, w = {s->out, s->in, s->kernel, s->kernel};
    dnnl_dims_t e = {1, s->out, s->rows - (s->kernel - 1) + s->pad_top + s->pad_bottom, s->width};
    dnnl_dims_t stride = {1, 1}, before = {s->pad_top, s->kernel / 2}, after = {s->pad_bottom, s->kernel / 2};
    dnnl_memory_desc_t any;
    dnnl_convolution_desc_t d;
    dnnl_primitive_desc_t forward = NULL;
    bool ok = dnnl_memory_desc_init_by_tag(&j->x, 4, x, data_type(s->in_type), dnnl_nhwc) == dnnl_success &&
              dnnl_memory_desc_init_by_tag(&j->w, 4, e, data_type(s->in_type), dnnl_nhwc) == dnnl_success &&
              dnnl_memory_desc_init_by_tag(&any, 4, w, data_type(s->in_type), dnnl_format_tag_any) == dnnl_success &&
              dnnl_memory_desc_init_by_tag(&j->y, 4, w, dnnl_f32, dnnl_format_tag_any) == dnnl_success &&
              dnnl_convolution_forward_desc_init(&d, dnnl_forward_training, dnnl_convolution_direct, &j->x, &any, NULL,
                                                 &j->w, stride, before, after) == dnnl_success &&
              dnnl_primitive_desc_create(&forward, &d, attr, engine, NULL) == dnnl_success &&
              dnnl_convolution_backward_weights_desc_init(&d, dnnl_convolution_direct, &j->x, &j->y, NULL, &j->w, stride,
                                                          before, after) == dnnl_success &&
              dnnl_primitive_desc_create(pd, &d, attr, engine, forward) == dnnl_success;
    if (ok)
        j->y = *dnnl_primitive_desc_query_md(*pd, dnnl_query_diff_weights_md, 0);
    if (forward)
        dnnl_primitive_desc_destroy(forward);
    return ok;
}

static bool describe(dnnl_job *j, const_dnnl_primitive_attr_t attr, dnnl_engine_t engine, dnnl_primitive_desc_t *pd)
{
    if (j->spec.product == OAS_WEIGHT_GRADIENT)
        return (j->spec.kernel ? describe_conv_gradient : describe_dense_gradient)(j, attr, engine, pd);
    if (j->spec.product != OAS_LAYER)
        return describe_plain(j, attr, engine, pd);
    if (!(j->spec.kernel ? describe_conv : describe_dense)(j, attr, engine, pd))
        return false;
    j->w = *dnnl_primitive_desc_query_md(*pd, dnnl_query_weights_md, 0);
    return true;
}

static bool create_primitive(dnnl_cache *c, dnnl_job *j)
{
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t pd = NULL;
    bool ok = dnnl_primitive_attr_create(&attr) == dnnl_success && set_attributes(attr, &j->spec) &&
              describe(j, attr, c->engine, &pd);
    if (ok) {
        j->scratch = *dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
        ok = dnnl_primitive_create(&j->primitive, pd) == dnnl_success;
    }
    if (pd)
        dnnl_primitive_desc_destroy(pd);
    if (attr)
        dnnl_primitive_attr_destroy(attr);
    return ok;
}

static unsigned bucket_of(const dnnl_spec *s)
{
    uint64_t h = (uint64_t)s->rows * 0x9E3779B97F4A7C15u ^ (uint64_t)s->width * 0xC2B2AE3D27D4EB4Fu ^
                 (uint64_t)s->in * 0x165667B19E3779F9u ^ (uint64_t)s->out * 0x27D4EB2F165667C5u ^
                 (uint64_t)(s->product * 512 + s->kernel * 64 + s->act * 8 + s->pad_top * 2 + s->pad_bottom);
    return (unsigned)(h >> 40) % JOB_BUCKETS;
}

const dnnl_job *oas_dnnl_job(dnnl_cache *c, const dnnl_spec *spec, graph *g)
{
    dnnl_job **bucket = &c->jobs[bucket_of(spec)];
    for (dnnl_job *j = *bucket; j; j = j->next)
        if (memcmp(&j->spec, spec, sizeof *spec) == 0)
            return j;
    dnnl_job *j = oas_alloc(1, sizeof *j);
    if (!j) {
        oas_graph_fail(g, OASIS_E_MEMORY, "out of memory: %zu bytes for a oneDNN job", sizeof *j);
        return NULL;
    }
    j->spec = *spec;
    omp_set_num_threads(1);
    if (!create_primitive(c, j)) {
        oas_free(j);
        oas_graph_fail(g, OASIS_E_DEVICE, "oneDNN has no %s for %lld rows, %lld to %lld channels in %s",
                       spec->kernel ? "convolution" : "product", (long long)spec->rows, (long long)spec->in,
                       (long long)spec->out, oas_dtype_name((oas_dtype)spec->in_type));
        return NULL;
    }
    j->next = *bucket;
    *bucket = j;
    return j;
}

size_t oas_dnnl_weight_bytes(const dnnl_job *job)
{
    return dnnl_memory_desc_get_size(&job->w);
}

size_t oas_dnnl_scratch_bytes(const dnnl_job *job)
{
    return dnnl_memory_desc_get_size(&job->scratch);
}

struct pack_task {
    dnnl_cache *cache;
    const dnnl_job *job;
    const tensor *weight;
    int frames; /* OAS_DNNL_TRANSPOSED or those of permute_frames */
};

/* [out, in, frames, taps] to [out, frames, in, taps]. */
static void permute_frames(char *to, const char *from, const dnnl_spec *s, int frames, size_t element)
{
    int64_t taps = s->kernel * s->kernel, in = s->in / frames;
    size_t run = (size_t)taps * element;
    for (int64_t o = 0; o < s->out; o++)
        for (int64_t i = 0; i < in; i++)
            for (int64_t k = 0; k < frames; k++)
                memcpy(to + (size_t)((o * frames + k) * in + i) * run, from + (size_t)((o * in + i) * frames + k) * run,
                       run);
}

static bool reorder(dnnl_cache *c, const dnnl_memory_desc_t *from_md, const void *from, const dnnl_memory_desc_t *to_md,
                    void *to)
{
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_t p = NULL;
    dnnl_memory_t a = NULL, b = NULL;
    omp_set_num_threads(1);
    bool ok = dnnl_reorder_primitive_desc_create(&pd, from_md, c->engine, to_md, c->engine, NULL) == dnnl_success &&
              dnnl_primitive_create(&p, pd) == dnnl_success &&
              dnnl_memory_create(&a, from_md, c->engine, (void *)(uintptr_t)from) == dnnl_success &&
              dnnl_memory_create(&b, to_md, c->engine, to) == dnnl_success;
    if (ok) {
        dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, a}, {DNNL_ARG_TO, b}};
        ok = dnnl_primitive_execute(p, c->streams[0], 2, args) == dnnl_success &&
             dnnl_stream_wait(c->streams[0]) == dnnl_success;
    }
    if (b)
        dnnl_memory_destroy(b);
    if (a)
        dnnl_memory_destroy(a);
    if (p)
        dnnl_primitive_destroy(p);
    if (pd)
        dnnl_primitive_desc_destroy(pd);
    return ok;
}

static oasis_status pack_weights(void *arg, void *to)
{
    struct pack_task *t = arg;
    const dnnl_spec *s = &t->job->spec;
    dnnl_memory_desc_t plain;
    dnnl_dims_t dense_dims = {s->in, s->out}, conv_dims = {s->out, s->in, s->kernel, s->kernel};
    dnnl_data_type_t type = data_type((int)t->weight->dtype);
    dnnl_status_t made = s->kernel ? dnnl_memory_desc_init_by_tag(&plain, 4, conv_dims, type, dnnl_oihw)
                                   : dnnl_memory_desc_init_by_tag(&plain, 2, dense_dims, type, t->frames < 0 ? dnnl_ab : dnnl_ba);
    if (made != dnnl_success)
        return OASIS_E_DEVICE;
    const void *from = t->weight->data;
    void *permuted = NULL;
    if (t->frames > 1) {
        permuted = oas_alloc(oas_bytes(t->weight), 1);
        if (!permuted)
            return OASIS_E_MEMORY;
        permute_frames(permuted, from, s, t->frames, oas_dtype_size(t->weight->dtype));
        from = permuted;
    }
    bool ok = reorder(t->cache, &plain, from, &t->job->w, to);
    oas_free(permuted);
    if (t->weight->mapped)
        oas_filemap_drop(t->weight->data, oas_bytes(t->weight));
    return ok ? OASIS_OK : OASIS_E_DEVICE;
}

/* Two jobs share a packed weight when it is read alike and its layout is the same: the blocking tells, and the sizes are the weight's own. */
static pack_key layout_key(const dnnl_memory_desc_t *md, int permute)
{
    pack_key key = {{0}};
    const dnnl_blocking_desc_t *b = &md->format_desc.blocking;
    int64_t words[OAS_PACK_KEY / 8] = {md->data_type, b->inner_nblks * 64 + permute, (int64_t)dnnl_memory_desc_get_size(md)};
    for (int i = 0; i < b->inner_nblks && i < 4; i++)
        words[3 + i] = b->inner_blks[i] * 16 + b->inner_idxs[i];
    for (int i = 0; i < md->ndims; i++)
        words[7] = (int64_t)((uint64_t)words[7] * 1000003u + (uint64_t)b->strides[i]); /* a hash: may wrap */
    memcpy(key.bytes, words, sizeof key.bytes);
    return key;
}

oasis_status oas_dnnl_weights(dnnl_cache *c, const dnnl_job *job, const tensor *w, int permute, void *own,
                              const void **out)
{
    struct pack_task task = {c, job, w, permute};
    if (w->packed && !w->needs_grad) {
        pack_key key = layout_key(&job->w, permute);
        return oas_packed_get(w->packed, &key, oas_dnnl_weight_bytes(job), pack_weights, &task, out);
    }
    *out = own;
    return pack_weights(&task, own);
}

bool oas_dnnl_weights_alike(const dnnl_job *a, const dnnl_job *b)
{
    return dnnl_memory_desc_equal(&a->w, &b->w);
}

size_t oas_dnnl_gradient_floats(const dnnl_job *job)
{
    return dnnl_memory_desc_get_size(&job->y) / sizeof(float);
}

bool oas_dnnl_gradients_alike(const dnnl_job *a, const dnnl_job *b)
{
    return dnnl_memory_desc_equal(&a->y, &b->y);
}

oasis_status oas_dnnl_plain_gradient(dnnl_cache *c, const dnnl_job *job, const float *from, float *to)
{
    const dnnl_spec *s = &job->spec;
    dnnl_dims_t dims = {s->out, s->in, s->kernel, s->kernel};
    dnnl_memory_desc_t plain;
    bool ok = dnnl_memory_desc_init_by_tag(&plain, 4, dims, dnnl_f32, dnnl_oihw) == dnnl_success &&
              reorder(c, &job->y, from, &plain, to);
    return ok ? OASIS_OK : OASIS_E_DEVICE;
}

oasis_status oas_dnnl_run(dnnl_cache *c, const dnnl_job *j, int worker, const void *x, const void *weights,
                          const float *bias, void *y, void *scratch)
{
    dnnl_memory_t m[5] = {NULL};
    bool backward = j->spec.product == OAS_WEIGHT_GRADIENT && j->spec.kernel;
    struct {
        int arg;
        const dnnl_memory_desc_t *md;
        const void *data;
    } parts[5] = {{DNNL_ARG_SRC, &j->x, x},
                  {backward ? DNNL_ARG_DIFF_DST : DNNL_ARG_WEIGHTS, &j->w, weights},
                  {backward ? DNNL_ARG_DIFF_WEIGHTS : DNNL_ARG_DST, &j->y, y},
                  {DNNL_ARG_SCRATCHPAD, &j->scratch, scratch},
                  {DNNL_ARG_BIAS, &j->bias, bias}};
    dnnl_exec_arg_t args[5];
    int n = j->spec.bias ? 5 : 4;
    bool ok = true;
    omp_set_num_threads(1);
    for (int i = 0; ok && i < n; i++) {
        ok = dnnl_memory_create(&m[i], parts[i].md, c->engine, (void *)(uintptr_t)parts[i].data) == dnnl_success;
        args[i] = (dnnl_exec_arg_t){parts[i].arg, m[i]};
    }
    ok = ok && dnnl_primitive_execute(j->primitive, c->streams[worker], n, args) == dnnl_success &&
         dnnl_stream_wait(c->streams[worker]) == dnnl_success;
    for (int i = 0; i < n; i++)
        if (m[i])
            dnnl_memory_destroy(m[i]);
    return ok ? OASIS_OK : OASIS_E_DEVICE;
}
