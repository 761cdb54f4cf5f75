/* Judges from files. */
#include "metrics/perceptual_file.h"

#include "base/memory.h"
#include "format/weight_file.h"
#include "metrics/squeezenet.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- colours --------------------------------------------------------------------------------------------------------- */

/* colour c of the result = factor[c] * colour (or its opposite, with `turned`) + offset[c], of pixels in [-1,1]. */
static void set_colours(const linear *l, const double factor[3], const double offset[3], bool turned)
{
    float *w = l->weight->data, *b = l->bias->data;
    for (int c = 0; c < 3; c++) {
        w[3 * c + (turned ? 2 - c : c)] = (float)factor[c];
        b[c] = (float)offset[c];
    }
}

static void set_input(const judge *j)
{
    double factor[3], offset[3];
    static const double caffe[3] = {104, 117, 123};                                      /* of BGR on 0..255 */
    static const double shift[3] = {-.030, -.088, -.188}, scale[3] = {.458, .448, .450}; /* LPIPS, of [-1,1] */
    static const double mean[3] = {.485, .456, .406}, deviation[3] = {.229, .224, .225}; /* ImageNet, of [0,1] */
    for (int c = 0; c < 3; c++) {
        switch (j->kind) {
        case OAS_JUDGE_FEATURES:
            factor[c] = 127.5;
            offset[c] = 127.5 - caffe[c];
            break;
        case OAS_JUDGE_LPIPS:
            factor[c] = 1 / scale[c];
            offset[c] = -shift[c] / scale[c];
            break;
        case OAS_JUDGE_DISTS:
            factor[c] = 0.5 / deviation[c];
            offset[c] = (0.5 - mean[c]) / deviation[c];
            break;
        }
    }
    set_colours(&j->input, factor, offset, j->kind == OAS_JUDGE_FEATURES);
    if (j->kind == OAS_JUDGE_DISTS)
        set_colours(&j->picture, (const double[3]){.5, .5, .5}, (const double[3]){.5, .5, .5}, false);
}

/* ---- weights --------------------------------------------------------------------------------------------------------- */

/* A tensor of a file into `to`, of the file's name and of that shape; its values must be numbers. */
static oasis_status take(const weight_file *file, const char *name, const shape *size, float *to,
                         oasis_message *message)
{
    const stored *s = NULL;
    OAS_TRY(oas_weight_file_need(file, name, size->rank, size->size, &s, message));
    oas_stored_floats(s, 0, oas_stored_count(s), to);
    for (int64_t i = 0; i < oas_count(size); i++)
        if (!isfinite(to[i]))
            return oas_fail(message, OASIS_E_FORMAT, "%s: value %lld of '%s' is not a finite number",
                            oas_weight_file_path(file), (long long)i, name);
    return OASIS_OK;
}

static oasis_status take_backbone(judge_file *f, const weight_file *file, oasis_message *message)
{
    for (int i = 0; i < f->weights.count; i++) {
        parameter *p = f->weights.items[i];
        if (strncmp(p->name, "features.", 9) == 0)
            OAS_TRY(take(file, p->name, &p->tensor.shape, p->tensor.data, message));
    }
    return OASIS_OK;
}

static oasis_status take_lins(judge_file *f, const weight_file *file, oasis_message *message)
{
    int channels[OAS_MOST_TAPS], taps = oas_backbone_taps(f->judge.backbone, channels);
    for (int i = 0; i < taps; i++) {
        char name[32];
        snprintf(name, sizeof name, "lin%d.model.1.weight", i);
        const shape size = OAS_SHAPE4(1, channels[i], 1, 1);
        OAS_TRY(take(file, name, &size, f->judge.tap_weight[i]->data, message));
    }
    return OASIS_OK;
}

/* alpha and beta are of the picture's channels, then of the taps', and are divided by their sum. */
static oasis_status take_alpha_beta(judge_file *f, const weight_file *file, oasis_message *message)
{
    int channels[OAS_MOST_TAPS], taps = oas_backbone_taps(f->judge.backbone, channels), all = 3;
    for (int i = 0; i < taps; i++)
        all += channels[i];
    const shape size = OAS_SHAPE4(1, all, 1, 1);
    float *values = oas_alloc(2 * (size_t)all, sizeof *values);
    if (!values)
        return oas_fail_memory(message, 2 * (size_t)all * sizeof *values, "DISTS");
    oasis_status s = take(file, "alpha", &size, values, message);
    if (s == OASIS_OK)
        s = take(file, "beta", &size, values + all, message);
    double sum = 0;
    for (int i = 0; i < 2 * all; i++)
        sum += (double)values[i];
    if (s == OASIS_OK && !(sum > 0))
        s = oas_fail(message, OASIS_E_FORMAT, "%s: alpha and beta have the sum %g, expected more than 0",
                     oas_weight_file_path(file), sum);
    for (int i = -1, at = 0; i < taps && s == OASIS_OK; i++) {
        int count = i < 0 ? 3 : channels[i];
        float *to = f->judge.tap_weight[i < 0 ? taps : i]->data;
        for (int c = 0; c < count; c++) {
            to[c] = (float)((double)values[at + c] / sum);
            to[count + c] = (float)((double)values[all + at + c] / sum);
        }
        at += count;
    }
    oas_free(values);
    return s;
}

/* ---- files ----------------------------------------------------------------------------------------------------------- */

static oasis_status find_backbone(const weight_file *file, judgement kind, backbone *b, oasis_message *message)
{
    const stored *first = oas_weight_file_find(file, "features.0.weight");
    if (kind == OAS_JUDGE_DISTS || oas_weight_file_find(file, "features.28.weight"))
        *b = OAS_BACKBONE_VGG16;
    else if (oas_weight_file_find(file, "features.3.squeeze.weight"))
        *b = OAS_BACKBONE_SQUEEZENET;
    else if (first && first->rank == 4 && first->size[2] == 11)
        *b = OAS_BACKBONE_ALEXNET;
    else
        return oas_fail(message, OASIS_E_FORMAT,
                        "%s: none of the networks that LPIPS knows: torchvision's squeezenet1_1, alexnet or vgg16",
                        oas_weight_file_path(file));
    return OASIS_OK;
}

static oasis_status bind(judge_file *f, judgement kind, backbone b, oasis_message *message)
{
    f->weights.create = true;
    f->weights.path = "a perceptual network";
    oas_judge_bind(&f->judge, kind, b, &f->weights);
    if (f->weights.status < 0)
        return oas_fail(message, f->weights.status, "%s", f->weights.message.text);
    set_input(&f->judge);
    return OASIS_OK;
}

/* ncnn's weights lie as [tap][in][out]. */
static oasis_status open_ncnn(judge_file *f, const char *path, oasis_message *message)
{
    squeezenet net;
    OAS_TRY(oas_squeezenet_read(&net, path, message));
    oasis_status s = bind(f, OAS_JUDGE_FEATURES, OAS_BACKBONE_SQUEEZENET, message);
    for (int i = 0; i < OAS_SQUEEZENET_CONVS && s == OASIS_OK; i++) {
        const squeezenet_conv *c = &net.conv[i];
        int taps = c->side * c->side;
        float *w = f->judge.layer[i].weight->data;
        for (int k = 0; k < c->out * c->in * taps; k++)
            w[k] = c->weight[(k % taps * c->in + k / taps % c->in) * c->out + k / (taps * c->in)];
        memcpy(f->judge.layer[i].bias->data, c->bias, (size_t)c->out * sizeof *c->bias);
    }
    oas_squeezenet_free(&net);
    return s;
}

static oasis_status open_pair(judge_file *f, judgement kind, const char *first, const char *second,
                              oasis_message *message)
{
    weight_file *network = NULL, *weights = NULL;
    backbone b = OAS_BACKBONE_VGG16;
    oasis_status s = oas_weight_file_open(&network, first, message);
    if (s == OASIS_OK)
        s = oas_weight_file_open(&weights, second, message);
    if (s == OASIS_OK)
        s = find_backbone(network, kind, &b, message);
    if (s == OASIS_OK)
        s = bind(f, kind, b, message);
    if (s == OASIS_OK)
        s = take_backbone(f, network, message);
    if (s == OASIS_OK)
        s = kind == OAS_JUDGE_LPIPS ? take_lins(f, weights, message) : take_alpha_beta(f, weights, message);
    oas_weight_file_close(&weights);
    oas_weight_file_close(&network);
    return s;
}

oasis_status oas_judge_open(judge_file *f, judgement kind, const char *files, oasis_message *message)
{
    *f = (judge_file){.judge = {.kind = kind}};
    if (kind == OAS_JUDGE_FEATURES)
        return open_ncnn(f, files, message);
    const char *comma = strchr(files, ',');
    if (!comma || comma == files || !comma[1])
        return oas_fail(message, OASIS_E_ARGUMENT, "'%s' are not two files separated by a comma: %s", files,
                        kind == OAS_JUDGE_LPIPS ? "a network, and the linear weights of LPIPS for it"
                                                : "VGG16, and the alpha and beta of DISTS");
    char *first = oas_text_copy(files);
    if (!first)
        return oas_fail_memory(message, strlen(files), "a path");
    first[comma - files] = 0;
    oasis_status s = open_pair(f, kind, first, comma + 1, message);
    oas_free(first);
    return s;
}

void oas_judge_close(judge_file *f)
{
    oas_parameters_free(&f->weights);
}
