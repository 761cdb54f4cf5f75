/*
 * Clips from files.  A base clip, half as large again as what is asked for, is read or made by a camera, and degraded;
 * `reuse` clips in a row are cut from it.
 */
#include "base/memory.h"
#include "base/rng.h"
#include "dataset/motion.h"
#include "image/resize.h"

#include <dirent.h>
#include <math.h>
#include <oasis/dataset.h>
#include <oasis/degrade.h>
#include <oasis/video.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { STREAM_BASE = 200, STREAM_CROP, PATH_ROOM = 4096, MOST_DEPTH = 16 };

static const double BICUBIC_A = -0.75;

typedef struct source_file {
    char *path;
    bool picture;
} source_file;

/* Frames of a base clip. */
typedef struct frame_list {
    oasis_frame *frame;
    int n;
} frame_list;

struct oasis_dataset {
    const oasis_train_options *options;
    source_file *files;
    size_t count, capacity;
    bool ready;       /* truth and low hold base clip `base` */
    uint64_t base, seed;
    double temporal_step;
    int n, width, height;
    frame_list truth, low;
};

/* ---- the list of files --------------------------------------------------------------------------------------------- */

static bool ends_with_one_of(const char *path, const char *const *ends)
{
    const char *dot = strrchr(path, '.');
    for (; dot && *ends; ends++)
        if (strcasecmp(dot + 1, *ends) == 0)
            return true;
    return false;
}

static bool is_picture(const char *path)
{
    static const char *const ends[] = {"png", "jpg", "jpeg", "bmp", "tif", "tiff", "webp", "ppm", "jxl", NULL};
    return ends_with_one_of(path, ends) && !strchr(path, '%');
}

static bool is_video(const char *path)
{
    static const char *const ends[] = {"mp4", "mkv", "mov", "webm", "avi", "y4m", "m4v", "mpg", "ts", "ogv", NULL};
    return ends_with_one_of(path, ends) || strchr(path, '%');
}

static oasis_status add_file(oasis_dataset *d, const char *path, oasis_message *message)
{
    if (d->count == d->capacity) {
        size_t capacity = d->capacity ? 2 * d->capacity : 64;
        source_file *files = oas_alloc(capacity, sizeof *files);
        if (!files)
            return oas_fail_memory(message, capacity * sizeof *files, "the list of training files");
        if (d->count)
            memcpy(files, d->files, d->count * sizeof *files);
        oas_free(d->files);
        d->files = files;
        d->capacity = capacity;
    }
    source_file file = {oas_text_copy(path), is_picture(path)};
    if (!file.path)
        return oas_fail_memory(message, strlen(path), "the list of training files");
    d->files[d->count++] = file;
    return OASIS_OK;
}

/* Everything usable in a folder and those below it. */
static oasis_status add_folder(oasis_dataset *d, const char *folder, int depth, oasis_message *message)
{
    DIR *dir = depth < MOST_DEPTH ? opendir(folder) : NULL;
    if (!dir)
        return oas_fail(message, OASIS_E_IO, "%s: the folder cannot be read, or lies too deep", folder);
    oasis_status s = OASIS_OK;
    for (const struct dirent *e; s == OASIS_OK && (e = readdir(dir));) {
        char path[PATH_ROOM];
        struct stat info;
        int length = snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (e->d_name[0] == '.' || length >= PATH_ROOM || stat(path, &info) != 0)
            continue;
        if (S_ISDIR(info.st_mode))
            s = add_folder(d, path, depth + 1, message);
        else if (is_picture(path) || is_video(path))
            s = add_file(d, path, message);
    }
    closedir(dir);
    return s;
}

static int compare_files(const void *a, const void *b)
{
    return strcmp(((const source_file *)a)->path, ((const source_file *)b)->path);
}

static oasis_status list_files(oasis_dataset *d, oasis_message *message)
{
    const oasis_text_list *data = &d->options->data;
    if (data->count == 0)
        return oas_fail(message, OASIS_E_ARGUMENT, "the key 'data' is missing: videos, pictures, or folders of them");
    for (int i = 0; i < data->count; i++) {
        struct stat info;
        const char *path = data->text[i];
        bool pattern = strchr(path, '%') != NULL;
        size_t before = d->count;
        if (!pattern && stat(path, &info) != 0)
            return oas_fail(message, OASIS_E_IO, "%s: there is no such file or folder of training data", path);
        if (!pattern && S_ISDIR(info.st_mode))
            OAS_TRY(add_folder(d, path, 0, message));
        else
            OAS_TRY(add_file(d, path, message));
        if (d->count == before)
            return oas_fail(message, OASIS_E_FORMAT, "%s: the folder holds no video and no picture", path);
    }
    qsort(d->files, d->count, sizeof *d->files, compare_files); /* folders come in any order */
    return OASIS_OK;
}

oasis_status oasis_dataset_open(oasis_dataset **out, const oasis_train_options *options, oasis_message *message)
{
    oasis_dataset *d = oas_alloc(1, sizeof *d);
    if (!d)
        return oas_fail_memory(message, sizeof *d, "the training data");
    d->options = options;
    oasis_status s = list_files(d, message);
    if (s < 0)
        oasis_dataset_close(&d);
    else
        *out = d;
    return s;
}

void oasis_dataset_count(const oasis_dataset *d, int64_t *videos, int64_t *pictures)
{
    *videos = *pictures = 0;
    for (size_t i = 0; i < d->count; i++)
        ++*(d->files[i].picture ? pictures : videos);
}

static void free_frames(frame_list *l)
{
    for (int i = 0; i < l->n; i++)
        oasis_frame_free(&l->frame[i]);
    oas_free(l->frame);
    *l = (frame_list){NULL, 0};
}

static oasis_status new_frames(frame_list *l, int n, int width, int height, oasis_message *message)
{
    *l = (frame_list){oas_alloc((size_t)n, sizeof *l->frame), n};
    oasis_status s = l->frame ? OASIS_OK : OASIS_E_MEMORY;
    for (int i = 0; i < n && s == OASIS_OK; i++)
        s = oasis_frame_new(&l->frame[i], width, height, false);
    if (s < 0) {
        l->n = l->frame ? n : 0;
        free_frames(l);
        return oas_fail_memory(message, (size_t)n * (size_t)width * (size_t)height * 12, "the frames of a clip");
    }
    return OASIS_OK;
}

void oasis_dataset_close(oasis_dataset **out)
{
    oasis_dataset *d = *out;
    if (!d)
        return;
    for (size_t i = 0; i < d->count; i++)
        oas_free(d->files[i].path);
    oas_free(d->files);
    free_frames(&d->truth);
    free_frames(&d->low);
    oas_free(d);
    *out = NULL;
}

/* ---- a base clip --------------------------------------------------------------------------------------------------- */

/* A rectangle of a frame, resampled to the size of `to`. */
static oasis_status resample(const oasis_frame *from, int x, int y, int w, int h, oasis_frame *to, oas_filter filter,
                             oasis_message *message)
{
    oas_resize_spec spec = {.in_width = w, .in_height = h, .out_width = to->width, .out_height = to->height, .channels = 3};
    spec.filter = filter;
    spec.a = BICUBIC_A;
    oas_resizer *r = NULL;
    float *part = oas_alloc((size_t)w * (size_t)h, 3 * sizeof *part);
    if (!part)
        return oas_fail_memory(message, (size_t)w * (size_t)h * 12, "a part of a picture");
    for (int row = 0; row < h; row++)
        memcpy(part + (size_t)row * (size_t)w * 3, from->rgb + ((size_t)(y + row) * (size_t)from->width + (size_t)x) * 3,
               (size_t)w * 3 * sizeof *part);
    oasis_status s = oas_resizer_new(&r, &spec, message);
    if (s == OASIS_OK)
        oas_resize(r, NULL, part, to->rgb, 1, 0);
    oas_resizer_free(&r);
    oas_free(part);
    return s;
}

/* The part of a w x h frame that becomes width x height: at its own scale or smaller, enlarged only where it must be. */
typedef struct part {
    int x, y, w, h;
} part;

static part draw_part(oas_rng *rng, int w, int h, int width, int height)
{
    double least = fmax((double)width / w, (double)height / h);
    double factor = least >= 1 ? least : least + (1 - least) * oas_rng_uniform(rng);
    part p = {.w = (int)fmin(w, floor(width / factor + 0.5)), .h = (int)fmin(h, floor(height / factor + 0.5))};
    p.x = oas_rng_below(rng, w - p.w + 1);
    p.y = oas_rng_below(rng, h - p.h + 1);
    return p;
}

static oasis_status unreadable(const char *path, const char *why, oasis_message *message)
{
    return oas_fail(message, OASIS_E_IO, "training data: %s cannot be used: %.700s", path, why);
}

static oas_filter filter_for(const part *p, int width)
{
    return p->w >= width ? OAS_FILTER_AREA : OAS_FILTER_BICUBIC;
}

static oasis_status read_picture(const char *path, oas_rng *rng, frame_list *to, oasis_message *message)
{
    oasis_reader_options o;
    oasis_reader *r = NULL;
    oasis_frame whole = {0}, seen = {0};
    oasis_message why = {""};
    oasis_reader_options_init(&o);
    if (oasis_reader_open(&r, path, &o, &why) < 0)
        return unreadable(path, why.text, message);
    oasis_status s = oasis_reader_read(r, &whole);
    if (s != OASIS_OK)
        s = unreadable(path, s == OASIS_END ? "it holds no picture" : oasis_reader_message(r), message);
    oasis_reader_close(&r);
    int width = to->frame[0].width + 2 * OAS_MOTION_MARGIN, height = to->frame[0].height + 2 * OAS_MOTION_MARGIN;
    if (s == OASIS_OK && oasis_frame_new(&seen, width, height, false) < 0)
        s = oas_fail_memory(message, (size_t)width * (size_t)height * 12, "a picture");
    if (s == OASIS_OK) {
        part p = draw_part(rng, whole.width, whole.height, width, height);
        s = resample(&whole, p.x, p.y, p.w, p.h, &seen, filter_for(&p, width), message);
    }
    if (s == OASIS_OK)
        oas_move_camera(&seen, to->frame, to->n, rng);
    oasis_frame_free(&seen);
    oasis_frame_free(&whole);
    return s;
}

/* Where to begin, in seconds. */
static double draw_start(const char *path, oas_rng *rng, int frames, oasis_message *why)
{
    oasis_reader_options o;
    oasis_reader *r = NULL;
    oasis_media_info info;
    oasis_reader_options_init(&o);
    if (oasis_reader_open(&r, path, &o, why) < 0)
        return -1;
    oasis_reader_info(r, &info);
    double length = info.fps > 0 ? (frames + 1) / info.fps : 1, room = info.duration - length;
    oasis_reader_close(&r);
    return room > 0 ? room * oas_rng_uniform(rng) : 0;
}

/* A stretch of a video; where it is too short, its last frame is repeated. */
static oasis_status read_video(const char *path, oas_rng *rng, frame_list *to, oasis_message *message)
{
    oasis_reader_options o;
    oasis_reader *r = NULL;
    oasis_message why = {""};
    part p = {0};
    oasis_reader_options_init(&o);
    o.start = draw_start(path, rng, to->n, &why);
    o.deinterlace = true;
    if (o.start < 0 || oasis_reader_open(&r, path, &o, &why) < 0)
        return unreadable(path, why.text, message);
    oasis_status s = OASIS_OK;
    for (int i = 0; i < to->n && s == OASIS_OK; i++) {
        oasis_frame whole = {0};
        s = oasis_reader_read(r, &whole);
        if (s == OASIS_END && i > 0) {
            memcpy(to->frame[i].rgb, to->frame[i - 1].rgb,
                   (size_t)to->frame[i].width * (size_t)to->frame[i].height * 3 * sizeof(float));
            s = OASIS_OK;
            continue;
        }
        if (s != OASIS_OK) {
            s = unreadable(path, s == OASIS_END ? "it has no frames" : oasis_reader_message(r), message);
            break;
        }
        if (i == 0)
            p = draw_part(rng, whole.width, whole.height, to->frame[0].width, to->frame[0].height);
        s = resample(&whole, p.x, p.y, p.w, p.h, &to->frame[i], filter_for(&p, to->frame[0].width), message);
        oasis_frame_free(&whole);
    }
    oasis_reader_close(&r);
    return s;
}

static double draw_scale(const oasis_train_options *o, oas_rng *rng)
{
    double u = oas_rng_uniform(rng), between = oas_rng_between(rng, 1.5, 3.5);
    if (o->scale > 0)
        return o->scale < 1 ? 1 : o->scale;
    return u < 0.6 ? 4 : u < 0.9 ? between : 1;
}

/* Degrades the frames and enlarges them to their size again, as upscaling does before the network. */
static oasis_status degrade(const oasis_train_options *o, const oasis_clip_request *r, uint64_t seed, oas_rng *rng,
                            const frame_list *truth, frame_list *low, oasis_message *message)
{
    oasis_degrade_options how;
    oasis_degrade_options_init(&how);
    how.scale = draw_scale(o, rng);
    how.seed = (int64_t)(seed >> 11);
    how.temporal_step = r->temporal_step;
    how.fast_video = true;
    oasis_frame *small = oas_alloc((size_t)truth->n, sizeof *small);
    if (!small)
        return oas_fail_memory(message, (size_t)truth->n * sizeof *small, "the frames of a clip");
    oasis_status s = oasis_degrade_clip(&how, truth->frame, truth->n, small, message);
    for (int i = 0; i < truth->n && s == OASIS_OK; i++)
        s = resample(&small[i], 0, 0, small[i].width, small[i].height, &low->frame[i], OAS_FILTER_BICUBIC, message);
    for (int i = 0; i < truth->n; i++)
        oasis_frame_free(&small[i]);
    oas_free(small);
    return s;
}

static oasis_status make_base(oasis_dataset *d, const oasis_clip_request *r, uint64_t base, uint64_t seed,
                              oasis_message *message)
{
    oas_rng rng = oas_rng_at(seed, STREAM_BASE, (uint32_t)base, (uint32_t)(base >> 32));
    int width = r->width + r->width / 2, height = r->height + r->height / 2;
    free_frames(&d->truth);
    free_frames(&d->low);
    OAS_TRY(new_frames(&d->truth, r->frames, width, height, message));
    OAS_TRY(new_frames(&d->low, r->frames, width, height, message));
    const source_file *file = &d->files[oas_rng_below(&rng, (int)d->count)];
    OAS_TRY((file->picture ? read_picture : read_video)(file->path, &rng, &d->truth, message));
    return degrade(d->options, r, oas_rng_derive(seed, base), &rng, &d->truth, &d->low, message);
}

/* ---- a clip -------------------------------------------------------------------------------------------------------- */

/* How a clip lies in its base clip. */
typedef struct view {
    int x, y;
    bool mirrored, upside_down, backwards;
} view;

static void take(const frame_list *from, const view *v, int i, oasis_frame *to)
{
    const oasis_frame *f = &from->frame[v->backwards ? from->n - 1 - i : i];
    for (int y = 0; y < to->height; y++)
        for (int x = 0; x < to->width; x++) {
            int sx = v->x + (v->mirrored ? to->width - 1 - x : x), sy = v->y + (v->upside_down ? to->height - 1 - y : y);
            memcpy(to->rgb + ((size_t)y * (size_t)to->width + (size_t)x) * 3,
                   f->rgb + ((size_t)sy * (size_t)f->width + (size_t)sx) * 3, 3 * sizeof(float));
        }
}

oasis_status oasis_dataset_clip(void *dataset, const oasis_clip_request *r, oasis_frame *truth, oasis_frame *low,
                                oasis_message *message)
{
    oasis_dataset *d = dataset;
    uint64_t reuse = r->validation ? 1 : (uint64_t)d->options->reuse, base = r->index / reuse;
    uint64_t seed = r->validation ? oas_rng_derive(r->seed, UINT64_MAX) : r->seed;
    /* The first clip that needs a base makes it, and decides how it is degraded; after resuming, so does a later one. */
    if (!d->ready || d->base != base || d->seed != seed || d->n != r->frames || d->width != r->width ||
        d->height != r->height || d->temporal_step != r->temporal_step) {
        d->ready = false;
        OAS_TRY(make_base(d, r, base, seed, message));
        d->ready = true;
        d->base = base, d->seed = seed, d->temporal_step = r->temporal_step;
        d->n = r->frames, d->width = r->width, d->height = r->height;
    }
    oas_rng rng = oas_rng_at(seed, STREAM_CROP, (uint32_t)r->index, (uint32_t)(r->index >> 32));
    view v = {.x = oas_rng_below(&rng, r->width / 2 + 1), .y = oas_rng_below(&rng, r->height / 2 + 1)};
    v.mirrored = oas_rng_uniform(&rng) < 0.5;
    v.upside_down = oas_rng_uniform(&rng) < 0.1;
    v.backwards = oas_rng_uniform(&rng) < 0.5;
    for (int i = 0; i < r->frames; i++) {
        if (oasis_frame_new(&truth[i], r->width, r->height, false) < 0 ||
            oasis_frame_new(&low[i], r->width, r->height, false) < 0)
            return oas_fail_memory(message, (size_t)r->width * (size_t)r->height * 24, "a clip");
        take(&d->truth, &v, i, &truth[i]);
        take(&d->low, &v, i, &low[i]);
    }
    return OASIS_OK;
}
