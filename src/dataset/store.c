/* The store of decoded material: a file is decoded outside the lock; whoever comes first keeps it. */
#include "dataset/store.h"

#include "base/memory.h"
#include "base/status.h"
#include "dataset/files.h"

#include <oasis/video.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* A file: what is known of it, and what is kept. */
typedef struct entry {
    const char *path;
    bool picture, known; /* known: fps, duration and estimate are */
    double fps, duration;
    int64_t estimate; /* of frames, 0 where unknown */
    material *kept;
    int users;
    uint64_t used; /* when, in takes */
} entry;

struct oas_store {
    const oasis_train_options *options;
    file_names pictures, videos;
    entry *entries; /* pictures, then videos */
    int count;
    size_t bytes, most;
    uint64_t takes;
    pthread_mutex_t lock;
};

oasis_status oas_store_new(oas_store **out, const oasis_train_options *options, oasis_message *message)
{
    oas_store *s = oas_alloc(1, sizeof *s);
    if (!s)
        return oas_fail_memory(message, sizeof *s, "the training data");
    s->options = options;
    s->most = (size_t)(options->cache * 1048576.);
    pthread_mutex_init(&s->lock, NULL);
    oasis_status status = oas_files_list(&options->data, &s->pictures, &s->videos, message);
    s->count = s->pictures.count + s->videos.count;
    if (status == OASIS_OK) {
        s->entries = oas_alloc((size_t)s->count, sizeof *s->entries);
        if (!s->entries)
            status = oas_fail_memory(message, (size_t)s->count * sizeof *s->entries, "the list of training files");
    }
    for (int i = 0; i < s->count && status == OASIS_OK; i++) {
        bool picture = i < s->pictures.count;
        s->entries[i].picture = picture;
        s->entries[i].path = picture ? s->pictures.path[i] : s->videos.path[i - s->pictures.count];
    }
    if (status < 0)
        oas_store_free(&s);
    else
        *out = s;
    return status;
}

static void material_free(material *m)
{
    if (m)
        oas_free(m->rgb);
    oas_free(m);
}

void oas_store_free(oas_store **out)
{
    oas_store *s = *out;
    if (!s)
        return;
    for (int i = 0; s->entries && i < s->count; i++)
        material_free(s->entries[i].kept);
    oas_free(s->entries);
    oas_files_free(&s->pictures);
    oas_files_free(&s->videos);
    pthread_mutex_destroy(&s->lock);
    oas_free(s);
    *out = NULL;
}

int oas_store_pictures(const oas_store *store)
{
    return store->pictures.count;
}

int oas_store_videos(const oas_store *store)
{
    return store->videos.count;
}

/* ---- decoding ------------------------------------------------------------------------------------------------------ */

static oasis_status unreadable(const char *path, const char *why, oasis_message *message)
{
    return oas_fail(message, OASIS_E_IO, "training data: %s cannot be used: %.700s", path, why);
}

typedef struct rectangle {
    int x, y, width, height;
} rectangle;

/* What the rule "TEXT=WxH+X+Y" leaves of frames of a file whose path contains TEXT. */
static oasis_status crop_of(const oas_store *s, const char *path, int width, int height, rectangle *r,
                            oasis_message *message)
{
    *r = (rectangle){0, 0, width, height};
    for (int i = 0; i < s->options->crop.count; i++) {
        const char *rule = s->options->crop.text[i], *equals = strrchr(rule, '=');
        char name[1024];
        rectangle c;
        if (!equals || equals == rule || (size_t)(equals - rule) >= sizeof name ||
            sscanf(equals, "=%dx%d+%d+%d", &c.width, &c.height, &c.x, &c.y) != 4)
            return oas_fail(message, OASIS_E_ARGUMENT, "crop: '%.200s' is not TEXT=WIDTHxHEIGHT+X+Y", rule);
        snprintf(name, sizeof name, "%.*s", (int)(equals - rule), rule);
        if (!strstr(path, name))
            continue;
        if (c.x < 0 || c.y < 0 || c.width < 1 || c.height < 1 || c.x > width - c.width || c.y > height - c.height)
            return oas_fail(message, OASIS_E_ARGUMENT, "crop: '%.200s' does not lie within the %dx%d pixels of %.300s",
                            rule, width, height, path);
        *r = c;
        return OASIS_OK;
    }
    return OASIS_OK;
}

static unsigned char byte_of(float x)
{
    float v = x * 255.f + 0.5f;
    return (unsigned char)(v > 0 ? v < 255.f ? v : 255.f : 0);
}

/* Adds a frame; the first one decides the size. */
static oasis_status add_frame(const oas_store *s, const char *path, const oasis_frame *f, int room, material *m,
                              rectangle *r, oasis_message *message)
{
    if (!m->rgb) {
        OAS_TRY(crop_of(s, path, f->width, f->height, r, message));
        size_t each = (size_t)r->width * (size_t)r->height * 3;
        m->rgb = oas_alloc_unset((size_t)room, each);
        if (!m->rgb)
            return oas_fail_memory(message, (size_t)room * each, "decoded training data");
        m->width = r->width;
        m->height = r->height;
    }
    unsigned char *to = m->rgb + (size_t)m->frames++ * (size_t)m->width * (size_t)m->height * 3;
    for (int y = 0; y < m->height; y++) {
        const float *from = f->rgb + ((size_t)(r->y + y) * (size_t)f->width + (size_t)r->x) * 3;
        for (size_t i = 0; i < (size_t)m->width * 3; i++)
            *to++ = byte_of(from[i]);
    }
    return OASIS_OK;
}

/* Decodes up to `room` frames from `start` seconds on. */
static oasis_status decode(const oas_store *s, const char *path, double start, int room, material **out,
                           oasis_message *message)
{
    oasis_reader_options o;
    oasis_reader *reader = NULL;
    oasis_message why = {""};
    rectangle r = {0, 0, 0, 0};
    oasis_reader_options_init(&o);
    o.start = start;
    o.frames = room;
    o.deinterlace = true;
    if (oasis_reader_open(&reader, path, &o, &why) < 0)
        return unreadable(path, why.text, message);
    material *m = oas_alloc(1, sizeof *m);
    oasis_status status = m ? OASIS_OK : oas_fail_memory(message, sizeof *m, "decoded training data");
    while (status == OASIS_OK && m->frames < room) {
        oasis_frame frame = {0};
        status = oasis_reader_read(reader, &frame);
        if (status < 0)
            status = unreadable(path, oasis_reader_message(reader), message);
        else if (status == OASIS_END && m->frames == 0)
            status = unreadable(path, "it has no frames", message);
        else if (status == OASIS_OK)
            status = add_frame(s, path, &frame, room, m, &r, message);
        oasis_frame_free(&frame);
    }
    oasis_reader_close(&reader);
    if (status < 0)
        material_free(m);
    else
        *out = m;
    return status < 0 ? status : OASIS_OK;
}

/* What the container says of a video. */
static oasis_status learn(entry *e, oasis_message *message)
{
    oasis_reader_options o;
    oasis_reader *reader = NULL;
    oasis_media_info info;
    oasis_message why = {""};
    oasis_reader_options_init(&o);
    o.deinterlace = true;
    if (oasis_reader_open(&reader, e->path, &o, &why) < 0)
        return unreadable(e->path, why.text, message);
    oasis_reader_info(reader, &info);
    oasis_reader_close(&reader);
    e->fps = info.fps;
    e->duration = info.duration;
    e->estimate = info.frames;
    e->known = true;
    return OASIS_OK;
}

/* ---- taking -------------------------------------------------------------------------------------------------------- */

static size_t size_of(const material *m)
{
    return (size_t)m->frames * (size_t)m->width * (size_t)m->height * 3;
}

/* Lets go of what was not used for longest until the rest fits.  Called under the lock. */
static void make_room(oas_store *s)
{
    while (s->bytes > s->most) {
        entry *oldest = NULL;
        for (int i = 0; i < s->count; i++) {
            entry *e = &s->entries[i];
            if (e->kept && e->users == 0 && (!oldest || e->used < oldest->used))
                oldest = e;
        }
        if (!oldest)
            return;
        s->bytes -= size_of(oldest->kept);
        material_free(oldest->kept);
        oldest->kept = NULL;
    }
}

/* A file that is kept whole. */
static oasis_status take_whole(oas_store *s, int file, taken *t, oasis_message *message)
{
    entry *e = &s->entries[file];
    pthread_mutex_lock(&s->lock);
    e->used = ++s->takes;
    e->users++; /* also holds the place while it is decoded */
    bool there = e->kept != NULL;
    pthread_mutex_unlock(&s->lock);
    if (!there) {
        material *m = NULL;
        oasis_status status = decode(s, e->path, 0, e->picture ? 1 : OAS_SHORT_VIDEO, &m, message);
        pthread_mutex_lock(&s->lock);
        if (status < 0) {
            e->users--;
        } else if (e->kept) {
            material_free(m); /* another thread was faster */
        } else {
            e->kept = m;
            s->bytes += size_of(m);
            make_room(s);
        }
        pthread_mutex_unlock(&s->lock);
        if (status < 0)
            return status;
    }
    *t = (taken){.m = e->kept, .file = file};
    return OASIS_OK;
}

oasis_status oas_store_take(oas_store *s, bool picture, int number, int frames, oas_rng *rng, taken *t,
                            oasis_message *message)
{
    int file = picture ? number : s->pictures.count + number;
    entry *e = &s->entries[file];
    double place = oas_rng_uniform(rng);
    if (picture)
        return take_whole(s, file, t, message);
    pthread_mutex_lock(&s->lock);
    oasis_status status = e->known ? OASIS_OK : learn(e, message);
    pthread_mutex_unlock(&s->lock);
    if (status < 0)
        return status;
    if (e->estimate > 0 && e->estimate <= OAS_SHORT_VIDEO) {
        OAS_TRY(take_whole(s, file, t, message));
        int room = t->m->frames - frames;
        t->first = room > 0 ? (int)(place * (room + 1)) : 0;
        return OASIS_OK;
    }
    double room = e->duration - (e->fps > 0 ? (frames + 1) / e->fps : 1);
    material *m = NULL;
    OAS_TRY(decode(s, e->path, room > 0 ? room * place : 0, frames, &m, message));
    *t = (taken){.m = m, .file = -1};
    return OASIS_OK;
}

void oas_store_release(oas_store *s, taken *t)
{
    if (!t->m)
        return;
    if (t->file < 0) {
        material_free(t->m);
    } else {
        pthread_mutex_lock(&s->lock);
        s->entries[t->file].users--;
        make_room(s);
        pthread_mutex_unlock(&s->lock);
    }
    *t = (taken){0};
}
