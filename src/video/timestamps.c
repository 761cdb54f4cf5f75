/* Repair of time stamps. */
#include "video/timestamps.h"

#include <libavutil/avutil.h>
#include <libavutil/mathematics.h>

void oas_timestamps_init(oas_timestamps *t, AVRational rate, AVRational time_base)
{
    *t = (oas_timestamps){.nominal = 1, .last = AV_NOPTS_VALUE};
    if (rate.num > 0 && rate.den > 0)
        t->nominal = av_rescale_q(1, av_inv_q(rate), time_base);
    if (t->nominal < 1)
        t->nominal = 1;
}

int64_t oas_timestamps_next(oas_timestamps *t, int64_t pts)
{
    int64_t next;
    if (t->last == AV_NOPTS_VALUE) {
        next = pts == AV_NOPTS_VALUE ? 0 : pts;
    } else if (pts == AV_NOPTS_VALUE) {
        next = t->last + t->nominal;
    } else {
        next = pts + t->moved;
        if (next <= t->last) {
            bool jump = t->last - next >= t->nominal;
            next = t->last + (jump ? t->nominal : 1);
            if (jump)
                t->moved = next - pts;
        }
    }
    if (pts == AV_NOPTS_VALUE || next != pts)
        t->repaired++;
    t->last = next;
    return next;
}
