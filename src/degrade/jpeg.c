/* JPEG, compressed and read back in memory by libjpeg: quality 30 to 95, chroma halved both ways. */
#include "degrade/stage.h"

#include "base/memory.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>

static const double QUALITY_LOW = 30, QUALITY_HIGH = 95, QUALITY_STEP = 3;

/* libjpeg's errors come back by a jump; whatever is open is destroyed where they land. */
struct jpeg {
    struct jpeg_error_mgr errors; /* first: libjpeg knows only this part */
    jmp_buf failed;
    char text[JMSG_LENGTH_MAX];
    struct jpeg_compress_struct compress;
    struct jpeg_decompress_struct decompress;
    unsigned char *row;
    unsigned char *file; /* of libjpeg's malloc */
    unsigned long size;
};

static void fail_by_jump(j_common_ptr info)
{
    struct jpeg *j = (struct jpeg *)(void *)info->err;
    info->err->format_message(info, j->text);
    longjmp(j->failed, 1);
}

static void say_nothing(j_common_ptr info)
{
    (void)info;
}

static void write_file(struct jpeg *j, const picture *in, int quality)
{
    struct jpeg_compress_struct *c = &j->compress;
    jpeg_create_compress(c);
    jpeg_mem_dest(c, &j->file, &j->size);
    c->image_width = (JDIMENSION)in->width;
    c->image_height = (JDIMENSION)in->height;
    c->input_components = 3;
    c->in_color_space = JCS_RGB;
    jpeg_set_defaults(c);
    jpeg_set_quality(c, quality, TRUE);
    jpeg_start_compress(c, TRUE);
    while (c->next_scanline < c->image_height) {
        const float *from = in->rgb + (size_t)c->next_scanline * (size_t)in->width * 3;
        for (int i = 0; i < in->width * 3; i++)
            j->row[i] = oas_to_byte(from[i]);
        jpeg_write_scanlines(c, &j->row, 1);
    }
    jpeg_finish_compress(c);
}

static void read_file(struct jpeg *j, picture *out)
{
    struct jpeg_decompress_struct *d = &j->decompress;
    jpeg_create_decompress(d);
    jpeg_mem_src(d, j->file, j->size);
    jpeg_read_header(d, TRUE);
    jpeg_start_decompress(d);
    while (d->output_scanline < d->output_height) {
        float *to = out->rgb + (size_t)d->output_scanline * (size_t)out->width * 3;
        jpeg_read_scanlines(d, &j->row, 1);
        for (int i = 0; i < out->width * 3; i++)
            to[i] = (float)j->row[i] / 255.f;
    }
    jpeg_finish_decompress(d);
}

static oasis_status jpeg_draw(stage *s, oasis_message *message)
{
    (void)message;
    oas_stage_walk(s, "quality", QUALITY_LOW, QUALITY_HIGH, QUALITY_STEP);
    return OASIS_OK;
}

static oasis_status jpeg_apply(stage *s, const picture *in, picture *out, oasis_message *message)
{
    OAS_TRY(oas_picture_size(out, in->width, in->height, message));
    struct jpeg *j = oas_alloc(1, sizeof *j);
    unsigned char *row = oas_alloc((size_t)in->width, 3);
    oasis_status status = OASIS_OK;
    if (!j || !row) {
        oas_free(j);
        oas_free(row);
        return oas_fail_memory(message, sizeof *j, "JPEG");
    }
    j->row = row;
    j->compress.err = j->decompress.err = jpeg_std_error(&j->errors);
    j->errors.error_exit = fail_by_jump;
    j->errors.output_message = say_nothing;
    if (setjmp(j->failed) == 0) {
        write_file(j, in, (int)(s->walks[0].value + 0.5));
        read_file(j, out);
    } else {
        status =
            oas_fail(message, OASIS_E_UNSUPPORTED, "degrade: JPEG of %dx%d pixels: %s", in->width, in->height, j->text);
    }
    jpeg_destroy_compress(&j->compress);
    jpeg_destroy_decompress(&j->decompress);
    free(j->file);
    oas_free(row);
    oas_free(j);
    return status;
}

const degradation oas_degradation_jpeg = {
    .name = "jpeg",
    .draw = jpeg_draw,
    .apply = jpeg_apply,
};
