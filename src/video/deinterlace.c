/* bwdif, with the time stamps kept beside it: the filter sees frame numbers. */
#include "video/deinterlace.h"

#include <libavfilter/avfilter.h>
#include <libavfilter/buffersink.h>
#include <libavfilter/buffersrc.h>
#include <libavutil/mem.h>
#include <stdio.h>

enum { MAX_INSIDE = 8 }; /* pictures between in and out; bwdif holds two */

struct oas_deinterlacer {
    AVFilterGraph *graph;
    AVFilterContext *in, *out;
    int64_t sent, received;
    struct {
        int64_t best_effort, duration;
    } times[MAX_INSIDE];
};

static oasis_status build(oas_deinterlacer *d, const AVFrame *first, bool all, oasis_message *message)
{
    char arguments[160];
    d->graph = avfilter_graph_alloc();
    if (!d->graph)
        return oas_media_fail_memory(message, "deinterlacing");
    d->graph->nb_threads = 2;
    snprintf(arguments, sizeof arguments, "video_size=%dx%d:pix_fmt=%d:time_base=1/25", first->width, first->height,
             first->format);
    AVFilterContext *bwdif = NULL;
    int code = avfilter_graph_create_filter(&d->in, avfilter_get_by_name("buffer"), "in", arguments, NULL, d->graph);
    if (code >= 0)
        code = avfilter_graph_create_filter(&bwdif, avfilter_get_by_name("bwdif"), "bwdif",
                                            all ? "mode=send_frame:deint=all" : "mode=send_frame:deint=interlaced",
                                            NULL, d->graph);
    if (code >= 0)
        code = avfilter_graph_create_filter(&d->out, avfilter_get_by_name("buffersink"), "out", NULL, NULL, d->graph);
    if (code >= 0)
        code = avfilter_link(d->in, 0, bwdif, 0);
    if (code >= 0)
        code = avfilter_link(bwdif, 0, d->out, 0);
    if (code >= 0)
        code = avfilter_graph_config(d->graph, NULL);
    if (code < 0 && (first->width < 3 || first->height < 4))
        return oas_media_fail(message, OASIS_E_UNSUPPORTED,
                              "pictures of %dx%d are too small to deinterlace; 3x4 at least", first->width,
                              first->height);
    return code < 0 ? oas_media_fail_av(message, code, "cannot start the deinterlacer (bwdif)") : OASIS_OK;
}

oasis_status oas_deinterlacer_new(oas_deinterlacer **deinterlacer, const AVFrame *first, bool all,
                                  oasis_message *message)
{
    oas_deinterlacer *d = av_mallocz(sizeof *d);
    if (!d)
        return oas_media_fail_memory(message, "deinterlacing");
    oasis_status status = build(d, first, all, message);
    if (status != OASIS_OK)
        oas_deinterlacer_free(&d);
    else
        *deinterlacer = d;
    return status;
}

void oas_deinterlacer_free(oas_deinterlacer **deinterlacer)
{
    if (*deinterlacer)
        avfilter_graph_free(&(*deinterlacer)->graph);
    av_freep(deinterlacer);
}

oasis_status oas_deinterlacer_send(oas_deinterlacer *d, AVFrame *frame, oasis_message *message)
{
    if (frame) {
        if (d->sent - d->received >= MAX_INSIDE)
            return oas_media_fail(message, OASIS_E_UNSUPPORTED, "the deinterlacer keeps more than %d pictures",
                                  MAX_INSIDE);
        d->times[d->sent % MAX_INSIDE].best_effort = frame->best_effort_timestamp;
        d->times[d->sent % MAX_INSIDE].duration = frame->pkt_duration;
        frame->pts = d->sent++;
    }
    int code = av_buffersrc_add_frame(d->in, frame);
    return code < 0 ? oas_media_fail_av(message, code, "deinterlacing failed") : OASIS_OK;
}

oasis_status oas_deinterlacer_receive(oas_deinterlacer *d, AVFrame *frame, oasis_message *message)
{
    int code = av_buffersink_get_frame(d->out, frame);
    if (code == AVERROR(EAGAIN))
        return OASIS_AGAIN;
    if (code == AVERROR_EOF && d->received == d->sent)
        return OASIS_END;
    if (code < 0)
        return oas_media_fail_av(message, code, "deinterlacing failed after %lld of %lld frames",
                                 (long long)d->received, (long long)d->sent);
    frame->best_effort_timestamp = d->times[d->received % MAX_INSIDE].best_effort;
    frame->pkt_duration = d->times[d->received % MAX_INSIDE].duration;
    frame->interlaced_frame = 0;
    d->received++;
    return OASIS_OK;
}
