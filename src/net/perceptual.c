/* Networks as judges. */
#include "net/perceptual.h"

/* A row of a network: a convolution with ReLU, maxima, or a fire module of SqueezeNet. */
typedef struct feature_row {
    enum { CONV, POOL, FIRE, END } kind;
    int index, out, side, stride, pad; /* index: in torchvision's list; of a fire, `side` is the squeezed width */
    bool tap;
} feature_row;

static const feature_row squeezenet[] = {
    {CONV, 0, 64, 3, 2, 0, true},
    {POOL, 2, 0, 3, 2, 0, false},
    {FIRE, 3, 128, 16, 0, 0, false},
    {FIRE, 4, 128, 16, 0, 0, true},
    {POOL, 5, 0, 3, 2, 0, false},
    {FIRE, 6, 256, 32, 0, 0, false},
    {FIRE, 7, 256, 32, 0, 0, true},
    {POOL, 8, 0, 3, 2, 0, false},
    {FIRE, 9, 384, 48, 0, 0, true},
    {FIRE, 10, 384, 48, 0, 0, true},
    {FIRE, 11, 512, 64, 0, 0, true},
    {FIRE, 12, 512, 64, 0, 0, true},
    {.kind = END},
};

static const feature_row alexnet[] = {
    {CONV, 0, 64, 11, 4, 2, true},  {POOL, 2, 0, 3, 2, 0, false},
    {CONV, 3, 192, 5, 1, 2, true},  {POOL, 5, 0, 3, 2, 0, false},
    {CONV, 6, 384, 3, 1, 1, true},  {CONV, 8, 256, 3, 1, 1, true},
    {CONV, 10, 256, 3, 1, 1, true}, {.kind = END},
};

static const feature_row vgg16[] = {
    {CONV, 0, 64, 3, 1, 1, false},   {CONV, 2, 64, 3, 1, 1, true},    {POOL, 4, 0, 2, 2, 0, false},
    {CONV, 5, 128, 3, 1, 1, false},  {CONV, 7, 128, 3, 1, 1, true},   {POOL, 9, 0, 2, 2, 0, false},
    {CONV, 10, 256, 3, 1, 1, false}, {CONV, 12, 256, 3, 1, 1, false}, {CONV, 14, 256, 3, 1, 1, true},
    {POOL, 16, 0, 2, 2, 0, false},   {CONV, 17, 512, 3, 1, 1, false}, {CONV, 19, 512, 3, 1, 1, false},
    {CONV, 21, 512, 3, 1, 1, true},  {POOL, 23, 0, 2, 2, 0, false},   {CONV, 24, 512, 3, 1, 1, false},
    {CONV, 26, 512, 3, 1, 1, false}, {CONV, 28, 512, 3, 1, 1, true},  {.kind = END},
};

static const feature_row *const networks[OAS_BACKBONES] = {
    [OAS_BACKBONE_SQUEEZENET] = squeezenet, [OAS_BACKBONE_ALEXNET] = alexnet, [OAS_BACKBONE_VGG16] = vgg16};

const char *oas_backbone_name(backbone b)
{
    static const char *const names[OAS_BACKBONES] = {"SqueezeNet 1.1", "AlexNet", "VGG16"};
    return names[b];
}

int oas_backbone_taps(backbone b, int channels[OAS_MOST_TAPS])
{
    int n = 0;
    for (const feature_row *r = networks[b]; r->kind != END; r++)
        if (r->tap)
            channels[n++] = r->out;
    return n;
}

/* ---- weights --------------------------------------------------------------------------------------------------------- */

static linear bind_layer(parameter_set *w, int index, const char *part, int out, int in, int side)
{
    return (linear){oas_parameter(w, OAS_MATRIX, OAS_SHAPE4(out, in, side, side), "features.%d.%sweight", index, part),
                    oas_parameter(w, OAS_VECTOR, OAS_SHAPE1(out), "features.%d.%sbias", index, part)};
}

static linear bind_colours(parameter_set *w, const char *name)
{
    return (linear){oas_parameter(w, OAS_MATRIX, OAS_SHAPE2(3, 3), "%s.weight", name),
                    oas_parameter(w, OAS_VECTOR, OAS_SHAPE1(3), "%s.bias", name)};
}

void oas_judge_bind(judge *j, judgement kind, backbone b, parameter_set *w)
{
    *j = (judge){.kind = kind, .backbone = b, .input = bind_colours(w, "input")};
    int in = 3, n = 0, channels[OAS_MOST_TAPS], taps = oas_backbone_taps(b, channels);
    for (const feature_row *r = networks[b]; r->kind != END; r++) {
        if (r->kind == CONV)
            j->layer[n++] = bind_layer(w, r->index, "", r->out, in, r->side);
        if (r->kind == FIRE) {
            j->layer[n++] = bind_layer(w, r->index, "squeeze.", r->side, in, 1);
            j->layer[n++] = bind_layer(w, r->index, "expand1x1.", r->out / 2, r->side, 1);
            j->layer[n++] = bind_layer(w, r->index, "expand3x3.", r->out / 2, r->side, 3);
        }
        in = r->out ? r->out : in;
    }
    if (kind == OAS_JUDGE_DISTS) {
        j->picture = bind_colours(w, "picture");
        j->tap_weight[taps] = oas_parameter(w, OAS_VECTOR, OAS_SHAPE1(2 * 3), "tap.picture.weight");
    }
    for (int i = 0; i < taps && kind != OAS_JUDGE_FEATURES; i++)
        j->tap_weight[i] = oas_parameter(w, OAS_VECTOR, OAS_SHAPE1((kind == OAS_JUDGE_DISTS ? 2 : 1) * channels[i]),
                                         "tap.%d.weight", i);
}

/* ---- forward --------------------------------------------------------------------------------------------------------- */

static tensor *convolve(graph *g, const linear *l, tensor *x, int side, int stride, int pad)
{
    if (side == 3 && stride == 1 && pad == 1)
        return oas_conv(g, x, &(conv){l->weight, l->bias}, NULL, OAS_RELU, NULL);
    if (side > 1)
        x = oas_unfold(g, x, side, stride, pad);
    return oas_linear(g, x, l, OAS_RELU, NULL, g->compute);
}

static tensor *fire(graph *g, const linear *l, tensor *x)
{
    x = convolve(g, &l[0], x, 1, 1, 0);
    return oas_join_channels(g, convolve(g, &l[1], x, 1, 1, 0), convolve(g, &l[2], x, 3, 1, 1));
}

bool oas_judge_taps(graph *g, const judge *j, tensor *pixels, tensor *tap[OAS_MOST_TAPS])
{
    size_t mark = oas_graph_mark(g);
    const linear *l = j->layer;
    int taps = 0;
    tensor *x = oas_linear(g, pixels, &j->input, OAS_LINEAR, NULL, g->compute);
    for (const feature_row *r = networks[j->backbone]; r->kind != END; r++) {
        switch (r->kind) {
        case POOL:
            x = j->kind == OAS_JUDGE_DISTS
                    ? oas_l2_pool(g, x)
                    : oas_max_pool(g, x, r->side, r->stride, j->backbone == OAS_BACKBONE_SQUEEZENET);
            break;
        case CONV: x = convolve(g, l++, x, r->side, r->stride, r->pad); break;
        case FIRE:
            x = fire(g, l, x);
            l += 3;
            break;
        case END: break;
        }
        if (!x)
            return false;
        if (r->tap) {
            tap[taps++] = x = oas_graph_sink(g, x, mark);
            mark = oas_graph_mark(g);
        }
    }
    return x != NULL;
}

/* Adds the distance of one map. */
static tensor *compare(graph *g, const judge *j, tensor *total, tensor *a, tensor *b, tensor *w, float weight)
{
    a = oas_cast(g, a, OAS_F32);
    b = oas_cast(g, b, OAS_F32);
    tensor *d = j->kind == OAS_JUDGE_DISTS ? oas_loss_dists(g, a, b, w, weight) : oas_loss_features(g, a, b, w, weight);
    return total ? oas_axpy(g, total, 1, d) : d;
}

tensor *oas_judge(graph *g, const judge *j, tensor *y, tensor *t, float weight)
{
    tensor *of_t[OAS_MOST_TAPS], *of_y[OAS_MOST_TAPS], *total = NULL;
    int channels[OAS_MOST_TAPS], taps = oas_backbone_taps(j->backbone, channels);
    if (!oas_judge_taps(g, j, t, of_t) || !oas_judge_taps(g, j, y, of_y))
        return NULL;
    for (int i = 0; i < taps; i++)
        total = compare(g, j, total, of_y[i], of_t[i], j->tap_weight[i],
                        j->kind == OAS_JUDGE_FEATURES ? weight / (float)taps : weight);
    if (j->kind == OAS_JUDGE_DISTS)
        total = compare(g, j, total, oas_linear(g, y, &j->picture, OAS_LINEAR, NULL, OAS_F32),
                        oas_linear(g, t, &j->picture, OAS_LINEAR, NULL, OAS_F32), j->tap_weight[taps], weight);
    return total;
}
