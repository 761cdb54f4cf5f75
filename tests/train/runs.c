#include "train/runs.h"

#include "format/weight_file.h"
#include "train/tiny.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

oasis_status make_clip(void *user, const oasis_clip_request *r, oasis_frame *truth, oasis_frame *low,
                       oasis_message *message)
{
    if (r->prepare)
        return OASIS_OK;
    const struct source *s = user;
    bool bad = !r->validation && r->index >= s->bad_from && r->index < s->bad_until;
    double phase = s->one ? 0 : (double)(r->index % 17);
    for (int f = 0; f < r->frames; f++) {
        if (oasis_frame_new(&truth[f], r->width, r->height, false) < 0 ||
            oasis_frame_new(&low[f], r->width / 4, r->height / 4, false) < 0) {
            snprintf(message->text, sizeof message->text, "no memory");
            return OASIS_E_MEMORY;
        }
        for (int i = 0; i < r->width * r->height * 3; i++) {
            int x = i / 3 % r->width, y = i / 3 / r->width;
            double v = 0.5 + 0.3 * sin(0.4 * (x + f) + phase) * cos(0.3 * y) + 0.15 * sin(1.5 * x + y + i % 3);
            truth[f].rgb[i] = bad ? NAN : (float)v;
        }
        for (int i = 0; i < low[f].width * low[f].height * 3; i++) {
            float sum = 0;
            for (int k = 0; k < 16; k++)
                sum += truth[f]
                           .rgb[((i / 3 / low[f].width * 4 + k / 4) * r->width + i / 3 % low[f].width * 4 + k % 4) * 3 +
                                i % 3];
            low[f].rgb[i] = sum / 16;
        }
    }
    return OASIS_OK;
}

struct source honest = {0, 0, false};

char folder[] = "/tmp/oasis-train-XXXXXX";

int setup(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

int teardown(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

const char *in_folder(const char *name)
{
    static char paths[4][256];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

oasis_train_options tiny_options(int stage, const char *output)
{
    oasis_train_options o;
    oasis_train_options_init(&o);
    o.stage = stage;
    o.output = output;
    o.dim = TINY_DIM, o.layers = 2, o.heads = 4, o.ffn_dim = 48;
    o.latent_channels = TINY_LATENT, o.in_dim = 8;
    o.decoder_latent = o.decoder_8 = o.decoder_4 = o.decoder_2 = 8;
    o.frames = TINY_FRAMES, o.width = o.height = TINY_SIDE;
    o.batch = 2, o.steps = 6, o.threads = 1, o.compute = 1;
    o.rate = 5e-3, o.warmup = 2, o.consistent_steps = 2;
    o.checkpoint_minutes = 0, o.log_every = 1, o.show_every = 3;
    return o;
}

oasis_trainer *open_trainer(const oasis_train_options *o, struct source *s)
{
    oasis_trainer *t = NULL;
    oasis_message why = {""};
    if (oasis_trainer_open(&t, o, make_clip, s, &why) < 0)
        fail_msg("%s", why.text);
    return t;
}

oasis_train_report run(const oasis_train_options *o, struct source *s, double *first)
{
    oasis_trainer *t = open_trainer(o, s);
    oasis_train_report r = {0};
    oasis_status status;
    double start = 0, end = 0;
    while ((status = oasis_trainer_step(t, &r)) == OASIS_OK) {
        start += r.step <= SOME_STEPS ? r.loss / SOME_STEPS : 0;
        end += r.step > r.steps - SOME_STEPS ? r.loss / SOME_STEPS : 0;
    }
    if (status != OASIS_END)
        fail_msg("%s", oasis_trainer_message(t));
    r.loss = end;
    if (first)
        *first = start;
    oasis_trainer_close(&t);
    return r;
}

bool same_tensors(const char *a, const char *b)
{
    weight_file *x = NULL, *y = NULL;
    oasis_message why = {""};
    if (oas_weight_file_open(&x, a, &why) < 0 || oas_weight_file_open(&y, b, &why) < 0)
        fail_msg("%s", why.text);
    bool same = oas_weight_file_count(x) == oas_weight_file_count(y);
    for (size_t i = 0; same && i < oas_weight_file_count(x); i++) {
        const stored *s = oas_weight_file_at(x, i), *t = oas_weight_file_find(y, s->name);
        same = t && s->bytes == t->bytes && memcmp(s->data, t->data, s->bytes) == 0;
    }
    oas_weight_file_close(&x);
    oas_weight_file_close(&y);
    return same;
}

void expect_refusal(const oasis_train_options *o, const char *part)
{
    oasis_trainer *t = NULL;
    oasis_message why = {""};
    oasis_status s = oasis_trainer_open(&t, o, make_clip, &honest, &why);
    if (s >= 0 || t || !strstr(why.text, part))
        fail_msg("status %d and \"%s\", expected a sentence with \"%s\"", (int)s, why.text, part);
}
