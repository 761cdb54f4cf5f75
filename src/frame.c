/* Frames. */
#include "base/memory.h"
#include "upscale.h"

#include <string.h>

oasis_status oas_frame_new_unset(oasis_frame *frame, int width, int height, bool alpha)
{
    enum { MOST_SIDE = 32768 };
    *frame = (oasis_frame){0};
    if (width < 1 || height < 1 || width > MOST_SIDE || height > MOST_SIDE)
        return OASIS_E_ARGUMENT;
    size_t pixels = (size_t)width * (size_t)height;
    frame->width = width;
    frame->height = height;
    frame->rgb = oas_alloc_unset(pixels, 3 * sizeof(float));
    frame->alpha = alpha ? oas_alloc_unset(pixels, sizeof(float)) : NULL;
    if (!frame->rgb || (alpha && !frame->alpha)) {
        oasis_frame_free(frame);
        return OASIS_E_MEMORY;
    }
    return OASIS_OK;
}

oasis_status oasis_frame_new(oasis_frame *frame, int width, int height, bool alpha)
{
    oasis_status s = oas_frame_new_unset(frame, width, height, alpha);
    size_t pixels = (size_t)frame->width * (size_t)frame->height;
    if (frame->rgb)
        memset(frame->rgb, 0, pixels * 3 * sizeof(float));
    if (frame->alpha)
        memset(frame->alpha, 0, pixels * sizeof(float));
    return s;
}

void oasis_frame_free(oasis_frame *frame)
{
    if (!frame)
        return;
    oas_free(frame->rgb);
    oas_free(frame->alpha);
    *frame = (oasis_frame){0};
}
