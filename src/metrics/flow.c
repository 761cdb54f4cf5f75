/* Pyramidal Lucas-Kanade for every pixel. */
#include "metrics/flow.h"

#include "base/memory.h"

#include <math.h>
#include <string.h>

enum {
    MAX_LEVELS = 8,
    LEAST_SIDE = 16, /* of the coarsest level */
    REACH = 4,       /* of the window, to each side */
    STEPS = 3,       /* at each level */
    PRODUCTS = 5,    /* gx gx, gx gy, gy gy, gx r, gy r */
    ROWS_PER_SLAB = 16,
    BLOCK = 16
};

/* Added to the sums of squared gradients: a window whose gradients are below half a grey level keeps its motion. */
static const float DAMPING = 0.25f * (2 * REACH + 1) * (2 * REACH + 1);
/* A step is the solution of a linear picture; further than this it is none. */
static const float FARTHEST = 1.5f;

struct level {
    int width, height;
    float *made[2];     /* the pictures of the coarser levels; none at the full size */
    const float *a, *b; /* what is compared */
    flow_field field;
};

struct oas_flow {
    struct level levels[MAX_LEVELS]; /* 0 = the full size, whose pictures and field are the caller's */
    int n;
    float *warped, *products[PRODUCTS]; /* of the full size */
    flow_field spare;
    float *sums; /* [workers][(PRODUCTS + 1) width + 2 REACH] */
    int workers;
};

/* ---- memory ------------------------------------------------------------------------------------------------------ */

static bool new_plane(float **plane, int width, int height)
{
    return (*plane = oas_alloc((size_t)width * (size_t)height, sizeof(float))) != NULL;
}

oasis_status oas_flow_new(oas_flow **flow, int width, int height, oasis_message *message)
{
    oas_flow *f = oas_alloc(1, sizeof *f);
    bool ok = f && new_plane(&f->warped, width, height) && new_plane(&f->spare.u, width, height) &&
              new_plane(&f->spare.v, width, height);
    for (int k = 0; k < PRODUCTS && ok; k++)
        ok = new_plane(&f->products[k], width, height);
    for (int w = width, h = height; ok; w = (w + 1) / 2, h = (h + 1) / 2) {
        struct level *l = &f->levels[f->n++];
        l->width = w;
        l->height = h;
        if (f->n > 1)
            ok = new_plane(&l->made[0], w, h) && new_plane(&l->made[1], w, h) && new_plane(&l->field.u, w, h) &&
                 new_plane(&l->field.v, w, h);
        if (f->n == MAX_LEVELS || w < 2 * LEAST_SIDE || h < 2 * LEAST_SIDE)
            break;
    }
    if (!ok) {
        oas_flow_free(&f);
        return oas_fail_memory(message, (size_t)width * (size_t)height * 12 * sizeof(float), "optical flow");
    }
    *flow = f;
    return OASIS_OK;
}

void oas_flow_free(oas_flow **flow)
{
    oas_flow *f = *flow;
    if (!f)
        return;
    for (int l = 1; l < f->n; l++) {
        oas_free(f->levels[l].made[0]);
        oas_free(f->levels[l].made[1]);
        oas_free(f->levels[l].field.u);
        oas_free(f->levels[l].field.v);
    }
    for (int k = 0; k < PRODUCTS; k++)
        oas_free(f->products[k]);
    oas_free(f->warped);
    oas_free(f->spare.u);
    oas_free(f->spare.v);
    oas_free(f->sums);
    oas_free(f);
    *flow = NULL;
}

/* ---- pyramid ----------------------------------------------------------------------------------------------------- */

static int clamped(int i, int n)
{
    return i < 0 ? 0 : i < n ? i : n - 1;
}

/* Every second pixel of the picture blurred by [1 4 6 4 1] / 16 both ways: pixel i lies on pixel 2 i. */
static void shrink(const float *in, int width, int height, float *out, int out_width, int out_height)
{
    static const float tap[5] = {1 / 16.f, 4 / 16.f, 6 / 16.f, 4 / 16.f, 1 / 16.f};
    for (int y = 0; y < out_height; y++)
        for (int x = 0; x < out_width; x++) {
            float sum = 0;
            for (int j = 0; j < 5; j++) {
                const float *row = in + (size_t)clamped(2 * y + j - 2, height) * (size_t)width;
                float across = 0;
                for (int i = 0; i < 5; i++)
                    across += tap[i] * row[clamped(2 * x + i - 2, width)];
                sum += tap[j] * across;
            }
            out[(size_t)y * (size_t)out_width + (size_t)x] = sum;
        }
}

/* The field of the coarser level as a start for the finer one. */
static void enlarge(const struct level *coarse, const struct level *fine)
{
    for (int y = 0; y < fine->height; y++)
        for (int x = 0; x < fine->width; x++) {
            size_t i = (size_t)y * (size_t)fine->width + (size_t)x;
            float fx = 0.5f * (float)x, fy = 0.5f * (float)y;
            fine->field.u[i] = 2 * oas_bilinear(coarse->field.u, coarse->width, coarse->height, 1, 0, fx, fy);
            fine->field.v[i] = 2 * oas_bilinear(coarse->field.v, coarse->width, coarse->height, 1, 0, fx, fy);
        }
}

/* ---- a step ------------------------------------------------------------------------------------------------------ */

struct step {
    const oas_flow *flow;
    const struct level *level;
    const flow_field *field; /* read by the median */
};

static void warp_slab(void *task, int64_t slab, int worker)
{
    (void)worker;
    const struct step *s = task;
    const struct level *l = s->level;
    for (int y = (int)slab * ROWS_PER_SLAB; y < (int)(slab + 1) * ROWS_PER_SLAB && y < l->height; y++)
        for (int x = 0; x < l->width; x++) {
            size_t i = (size_t)y * (size_t)l->width + (size_t)x;
            s->flow->warped[i] =
                oas_bilinear(l->b, l->width, l->height, 1, 0, (float)x + l->field.u[i], (float)y + l->field.v[i]);
        }
}

/* Gradients are means of both pictures'; pixels whose partner lies outside say nothing. */
static void product_slab(void *task, int64_t slab, int worker)
{
    (void)worker;
    const struct step *s = task;
    const struct level *l = s->level;
    int w = l->width, h = l->height;
    float *const *p = s->flow->products;
    for (int y = (int)slab * ROWS_PER_SLAB; y < (int)(slab + 1) * ROWS_PER_SLAB && y < h; y++) {
        size_t row = (size_t)y * (size_t)w, above = (size_t)clamped(y - 1, h) * (size_t)w;
        size_t below = (size_t)clamped(y + 1, h) * (size_t)w;
        const float *a = l->a, *b = s->flow->warped;
        for (int x = 0; x < w; x++) {
            size_t i = row + (size_t)x, left = x > 0 ? i - 1 : i, right = x + 1 < w ? i + 1 : i;
            float px = (float)x + l->field.u[i], py = (float)y + l->field.v[i];
            bool inside = px >= 0 && py >= 0 && px <= (float)(w - 1) && py <= (float)(h - 1);
            float on = inside ? 1.f : 0.f;
            float gx = on * 0.25f * (a[right] - a[left] + b[right] - b[left]);
            float gy = on * 0.25f *
                       (a[below + (size_t)x] - a[above + (size_t)x] + b[below + (size_t)x] - b[above + (size_t)x]);
            float e = b[i] - a[i] - gx * l->field.u[i] - gy * l->field.v[i];
            p[0][i] = gx * gx;
            p[1][i] = gx * gy;
            p[2][i] = gy * gy;
            p[3][i] = gx * e;
            p[4][i] = gy * e;
        }
    }
}

/* Sums over the window about each pixel of row y: down, with REACH zeros on either side, and then across. */
static void sum_window(const struct step *s, int y, float *sums)
{
    int w = s->level->width, first = y > REACH ? y - REACH : 0, last = clamped(y + REACH, s->level->height);
    float *down = sums + (size_t)PRODUCTS * (size_t)w;
    for (int k = 0; k < PRODUCTS; k++) {
        float *across = sums + (size_t)k * (size_t)w;
        memset(down, 0, (size_t)(w + 2 * REACH) * sizeof *down);
        for (int j = first; j <= last; j++) {
            const float *p = s->flow->products[k] + (size_t)j * (size_t)w;
            for (int x = 0; x < w; x++)
                down[REACH + x] += p[x];
        }
        for (int x = 0; x < w; x++) {
            float sum = 0;
            for (int i = 0; i <= 2 * REACH; i++)
                sum += down[x + i];
            across[x] = sum;
        }
    }
}

static float limited(float x)
{
    return x > -FARTHEST ? x < FARTHEST ? x : FARTHEST : -FARTHEST;
}

static void solve_slab(void *task, int64_t slab, int worker)
{
    const struct step *s = task;
    const struct level *l = s->level;
    int w = l->width;
    size_t full = (size_t)s->flow->levels[0].width;
    float *sums = s->flow->sums + (size_t)worker * ((PRODUCTS + 1) * full + 2 * REACH);
    const float *const m = sums;
    for (int y = (int)slab * ROWS_PER_SLAB; y < (int)(slab + 1) * ROWS_PER_SLAB && y < l->height; y++) {
        sum_window(s, y, sums);
        float *u = l->field.u + (size_t)y * (size_t)w, *v = l->field.v + (size_t)y * (size_t)w;
        for (int x = 0; x < w; x++) {
            float xx = m[x] + DAMPING, xy = m[w + x], yy = m[2 * w + x] + DAMPING;
            float xe = m[3 * w + x] - DAMPING * u[x], ye = m[4 * w + x] - DAMPING * v[x];
            float scale = 1 / (xx * yy - xy * xy);
            u[x] += limited((xy * ye - yy * xe) * scale - u[x]);
            v[x] += limited((xy * xe - xx * ye) * scale - v[x]);
        }
    }
}

/* ---- median ------------------------------------------------------------------------------------------------------ */

/* The smaller of each two to `low`, the larger to `high`, in the two forms that become one instruction each. */
static void exchange(float *restrict low, float *restrict high)
{
    for (int i = 0; i < BLOCK; i++) {
        float a = low[i], b = high[i];
        low[i] = a < b ? a : b;
        high[i] = a > b ? a : b;
    }
}

/* Of nine, by the known network of 19 exchanges (Paeth 1990), for BLOCK pixels side by side. */
static void median9(float p[9][BLOCK])
{
    static const unsigned char pairs[19][2] = {{1, 2}, {4, 5}, {7, 8}, {0, 1}, {3, 4}, {6, 7}, {1, 2},
                                               {4, 5}, {7, 8}, {0, 3}, {5, 8}, {4, 7}, {3, 6}, {1, 4},
                                               {2, 5}, {4, 7}, {4, 2}, {6, 4}, {4, 2}};
    for (int k = 0; k < 19; k++)
        exchange(p[pairs[k][0]], p[pairs[k][1]]);
}

static void median_row(const float *in, int w, int h, int y, float *out)
{
    for (int x = 0; x < w; x += BLOCK) {
        float p[9][BLOCK];
        for (int k = 0; k < 9; k++) {
            const float *row = in + (size_t)clamped(y + k / 3 - 1, h) * (size_t)w;
            int from = x + k % 3 - 1;
            if (from >= 0 && from + BLOCK <= w)
                memcpy(p[k], row + from, sizeof p[k]);
            else
                for (int i = 0; i < BLOCK; i++)
                    p[k][i] = row[clamped(from + i, w)];
        }
        median9(p);
        memcpy(out + x, p[4], (size_t)(w - x < BLOCK ? w - x : BLOCK) * sizeof *out);
    }
}

static void median_slab(void *task, int64_t slab, int worker)
{
    (void)worker;
    const struct step *s = task;
    const struct level *l = s->level;
    for (int y = (int)slab * ROWS_PER_SLAB; y < (int)(slab + 1) * ROWS_PER_SLAB && y < l->height; y++) {
        median_row(s->field->u, l->width, l->height, y, l->field.u + (size_t)y * (size_t)l->width);
        median_row(s->field->v, l->width, l->height, y, l->field.v + (size_t)y * (size_t)l->width);
    }
}

/* ---- all levels -------------------------------------------------------------------------------------------------- */

static oasis_status make_sums(oas_flow *f, oas_pool *pool, oasis_message *message)
{
    if (f->workers >= oas_pool_workers(pool))
        return OASIS_OK;
    oas_free(f->sums);
    f->workers = oas_pool_workers(pool);
    size_t row = ((size_t)(PRODUCTS + 1) * (size_t)f->levels[0].width + 2 * REACH) * sizeof(float);
    f->sums = oas_alloc((size_t)f->workers, row);
    if (f->sums)
        return OASIS_OK;
    f->workers = 0;
    return oas_fail_memory(message, row, "optical flow");
}

static void run_level(oas_flow *f, oas_pool *pool, const struct level *l)
{
    struct step s = {f, l, &f->spare};
    int64_t slabs = (l->height + ROWS_PER_SLAB - 1) / ROWS_PER_SLAB;
    size_t bytes = (size_t)l->width * (size_t)l->height * sizeof(float);
    for (int k = 0; k < STEPS; k++) {
        oas_pool_run(pool, slabs, warp_slab, &s);
        oas_pool_run(pool, slabs, product_slab, &s);
        oas_pool_run(pool, slabs, solve_slab, &s);
    }
    memcpy(f->spare.u, l->field.u, bytes);
    memcpy(f->spare.v, l->field.v, bytes);
    oas_pool_run(pool, slabs, median_slab, &s);
}

oasis_status oas_flow_run(oas_flow *flow, oas_pool *pool, const float *a, const float *b, flow_field *field,
                          oasis_message *message)
{
    OAS_TRY(make_sums(flow, pool, message));
    struct level levels[MAX_LEVELS];
    memcpy(levels, flow->levels, sizeof levels);
    levels[0].field = *field;
    levels[0].a = a;
    levels[0].b = b;
    for (int l = 1; l < flow->n; l++) {
        struct level *fine = &levels[l - 1], *next = &levels[l];
        shrink(fine->a, fine->width, fine->height, next->made[0], next->width, next->height);
        shrink(fine->b, fine->width, fine->height, next->made[1], next->width, next->height);
        next->a = next->made[0];
        next->b = next->made[1];
    }
    const struct level *top = &levels[flow->n - 1];
    memset(top->field.u, 0, (size_t)top->width * (size_t)top->height * sizeof(float));
    memset(top->field.v, 0, (size_t)top->width * (size_t)top->height * sizeof(float));
    for (int l = flow->n - 1; l >= 0; l--) {
        if (l + 1 < flow->n)
            enlarge(&levels[l + 1], &levels[l]);
        run_level(flow, pool, &levels[l]);
    }
    return OASIS_OK;
}
