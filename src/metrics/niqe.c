/* NIQE: the distance between the statistics of a frame and a model. */
#include "metrics/niqe.h"

#include "base/memory.h"

#include <math.h>
#include <string.h>

enum { N = OAS_NIQE_FEATURES };

/* ---- fitting ----------------------------------------------------------------------------------------------------- */

static bool whole(const double *f)
{
    for (int i = 0; i < N; i++)
        if (!isfinite(f[i]))
            return false;
    return true;
}

bool oas_niqe_fit(niqe_model *model, const double (*features)[OAS_NIQE_FEATURES], const double *weight, int n)
{
    double centre[N] = {0};
    int taken = 0;
    memset(model, 0, sizeof *model);
    for (int i = 0; i < N; i++) {
        int count = 0;
        for (int k = 0; k < n; k++)
            if (isfinite(features[k][i]) && (!weight || weight[k] > 0)) {
                model->mean[i] += features[k][i];
                count++;
            }
        if (count == 0)
            return false;
        model->mean[i] /= count;
    }
    for (int k = 0; k < n; k++)
        if (whole(features[k]) && (!weight || weight[k] > 0)) {
            taken++;
            for (int i = 0; i < N; i++)
                centre[i] += features[k][i];
        }
    for (int k = 0; k < n && taken > 1; k++)
        if (whole(features[k]) && (!weight || weight[k] > 0))
            for (int i = 0; i < N; i++)
                for (int j = 0; j < N; j++)
                    model->covariance[i][j] +=
                        (features[k][i] - centre[i] / taken) * (features[k][j] - centre[j] / taken) / (taken - 1);
    return true;
}

/* ---- distance ---------------------------------------------------------------------------------------------------- */

/* Turns the symmetric a into a diagonal matrix by rotations (Jacobi); the columns of v become its eigenvectors. */
static void diagonalise(double a[N][N], double v[N][N])
{
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            v[i][j] = i == j;
    for (int sweep = 0; sweep < 60; sweep++) {
        double off = 0, on = 0;
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++)
                *(i == j ? &on : &off) += a[i][j] * a[i][j];
        if (off <= 1e-30 * on)
            return;
        for (int p = 0; p < N; p++)
            for (int q = p + 1; q < N; q++) {
                if (fabs(a[p][q]) < 1e-300)
                    continue;
                double theta = (a[q][q] - a[p][p]) / (2 * a[p][q]);
                double t = (theta < 0 ? -1 : 1) / (fabs(theta) + sqrt(theta * theta + 1));
                double c = 1 / sqrt(t * t + 1), s = t * c;
                for (int k = 0; k < N; k++) {
                    double x = a[k][p], y = a[k][q];
                    a[k][p] = c * x - s * y;
                    a[k][q] = s * x + c * y;
                }
                for (int k = 0; k < N; k++) {
                    double x = a[p][k], y = a[q][k];
                    a[p][k] = c * x - s * y;
                    a[q][k] = s * x + c * y;
                    x = v[k][p];
                    y = v[k][q];
                    v[k][p] = c * x - s * y;
                    v[k][q] = s * x + c * y;
                }
            }
    }
}

double oas_niqe_distance(const niqe_model *a, const niqe_model *b)
{
    static const double NEGLIGIBLE = 1e-15; /* eigenvalues below this part of the largest count as 0 */
    double mean[N][N], vectors[N][N], largest = 0, sum = 0;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            mean[i][j] = (a->covariance[i][j] + b->covariance[i][j]) / 2;
    diagonalise(mean, vectors);
    for (int i = 0; i < N; i++)
        largest = fmax(largest, fabs(mean[i][i]));
    for (int i = 0; i < N; i++) {
        double along = 0;
        if (fabs(mean[i][i]) <= NEGLIGIBLE * largest)
            continue;
        for (int k = 0; k < N; k++)
            along += vectors[k][i] * (a->mean[k] - b->mean[k]);
        sum += along * along / mean[i][i];
    }
    return sqrt(sum);
}

/* ---- the metric -------------------------------------------------------------------------------------------------- */

struct niqe {
    niqe_model model;
};

static oasis_status niqe_open(void **state, const view *v, oasis_message *message)
{
    struct niqe *q = oas_alloc(1, sizeof *q);
    *state = q;
    if (!q)
        return oas_fail_memory(message, sizeof *q, "NIQE");
    if (v->options->niqe)
        return oas_niqe_read_model(&q->model, v->options->niqe, message);
    oas_niqe_own_model(&q->model);
    return OASIS_OK;
}

static oasis_status niqe_measure(void *state, const view *v, double *value, oasis_message *message)
{
    const struct niqe *q = state;
    niqe_blocks blocks;
    niqe_model frame;
    OAS_TRY(oas_niqe_blocks_new(&blocks, v->pool, v->now[OAS_CLIP]->luma, v->width, v->height, message));
    /* A pointer to const arrays: C11 wants the cast. */
    bool some = oas_niqe_fit(&frame, (const double(*)[OAS_NIQE_FEATURES])blocks.features, NULL, blocks.n);
    *value = some ? oas_niqe_distance(&frame, &q->model) : NAN;
    oas_niqe_blocks_free(&blocks);
    return OASIS_OK;
}

static bool with_file(const oasis_metrics_options *options)
{
    return options->niqe != NULL;
}

static bool without_file(const oasis_metrics_options *options)
{
    return options->niqe == NULL;
}

const metric oas_metric_niqe = {
    .info = {"niqe", "NIQE (published model)", "", -1, false, false},
    .least_side = OAS_NIQE_BLOCK,
    .possible = with_file,
    .open = niqe_open,
    .close = oas_free,
    .measure = niqe_measure,
};
const metric oas_metric_niqe_own = {
    .info = {"niqe_own", "NIQE (own model)", "", -1, false, false},
    .note = "own model: not the published number",
    .least_side = OAS_NIQE_BLOCK,
    .possible = without_file,
    .open = niqe_open,
    .close = oas_free,
    .measure = niqe_measure,
};
