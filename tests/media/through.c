/* Reader to writer. */
#include "through.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

static oasis_frame enlarge(const oasis_frame *in, int width, int height)
{
    oasis_frame out;
    assert_int_equal(oasis_frame_new(&out, width, height, in->alpha != NULL), OASIS_OK);
    out.pts = in->pts;
    out.duration = in->duration;
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++) {
            size_t from = (size_t)(y * in->height / height) * (size_t)in->width + (size_t)(x * in->width / width);
            size_t to = (size_t)y * (size_t)width + (size_t)x;
            memcpy(out.rgb + 3 * to, in->rgb + 3 * from, 3 * sizeof(float));
            if (in->alpha)
                out.alpha[to] = in->alpha[from];
        }
    }
    return out;
}

static oasis_status copy_frames(oasis_reader *r, oasis_writer *w, int width, int height, int *frames,
                                oasis_message *why)
{
    for (;;) {
        oasis_frame in;
        oasis_status status = oasis_reader_read(r, &in);
        if (status == OASIS_END)
            return OASIS_OK;
        if (status != OASIS_OK) {
            snprintf(why->text, sizeof why->text, "%s", oasis_reader_message(r));
            return status;
        }
        ++*frames;
        oasis_frame out = enlarge(&in, width, height);
        status = oasis_writer_write(w, &out);
        oasis_frame_free(&in);
        oasis_frame_free(&out);
        if (status != OASIS_OK) {
            snprintf(why->text, sizeof why->text, "%s", oasis_writer_message(w));
            return status;
        }
    }
}

static oasis_status run(const char *in, const char *out, const pass *p, int *frames, oasis_message *why)
{
    oasis_reader *r = NULL;
    oasis_writer *w = NULL;
    oasis_reader_options read;
    oasis_writer_options write;
    oasis_reader_options_init(&read);
    oasis_writer_options_init(&write);
    read.start = p->start;
    read.frames = p->frames;
    read.deinterlace = p->deinterlace;
    write.codec = p->codec;
    write.preset = p->preset;
    write.pixel_format = p->pixel_format;
    write.audio = !p->no_audio;
    write.overwrite = p->overwrite;
    if (p->extra)
        write.extra.text[write.extra.count++] = p->extra;
    oasis_status status = oasis_reader_open(&r, in, &read, why);
    if (status == OASIS_OK) {
        oasis_media_info info;
        oasis_reader_info(r, &info);
        int width = p->scale ? info.width * p->scale : p->width, height = p->scale ? info.height * p->scale : p->height;
        status = oasis_writer_open(&w, out, &write, r, width, height, why);
        if (status == OASIS_OK)
            status = copy_frames(r, w, width, height, frames, why);
        if (w && p->note)
            snprintf(p->note, 500, "%s", oasis_writer_note(w));
    }
    if (status == OASIS_OK && !p->lose_last) {
        status = oasis_writer_finish(w);
        snprintf(why->text, sizeof why->text, "%s", oasis_writer_message(w));
    }
    oasis_writer_close(&w);
    oasis_reader_close(&r);
    return status;
}

oasis_status try_through(const char *in, const char *out, const pass *p, oasis_message *why)
{
    int frames = 0;
    why->text[0] = '\0';
    return run(in, out, p, &frames, why);
}

int pass_through(const char *in, const char *out, const pass *p)
{
    oasis_message why = {""};
    int frames = 0;
    oasis_status status = run(in, out, p, &frames, &why);
    if (status != OASIS_OK)
        fail_msg("%s to %s: %s (%s)", in, out, why.text, oasis_status_name(status));
    return frames;
}
