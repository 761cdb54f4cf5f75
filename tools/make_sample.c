/*
 * Makes the sample clip: two photographs, filmed by a camera that pans, zooms and turns a little; reduced to 240x136,
 * made noisy, compressed hard; with synthesised sound.  Two shots of 36 frames, 24 frames a second.
 *
 *     make_sample MOUNTAIN.jpg WINE.jpg OUT.mp4      (called by tools/make_sample.sh)
 *
 * A tool for whoever changes the clip: it uses FFmpeg's libraries directly, ends at the first failure, and frees nothing.
 */
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/channel_layout.h>
#include <libavutil/opt.h>
#include <libswscale/swscale.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

enum { WIDTH = 240, HEIGHT = 136, RATE = 24, SHOT_FRAMES = 36, SHOTS = 2, SAMPLE_RATE = 44100, SUPERSAMPLES = 6 };
static const double NOISE = 4.0;     /* standard deviation, of 255 */
static const char *const CRF = "30"; /* of libx264: blocks and ringing, detail lost */

typedef struct picture {
    int width, height, stride;
    uint8_t *rgb;
} picture;

/* Where the camera looks: centre and width of its view in pixels of the photograph, turn in radians. */
typedef struct view {
    double x, y, width, turn;
} view;

static const view path[SHOTS][2] = {
    {{1150, 740, 2000, -0.010}, {1900, 800, 1800, 0.012}},  /* mountain: pan to the right */
    {{1330, 1000, 1900, 0.015}, {1300, 960, 1250, -0.010}}, /* wine: move in */
};

static void check(bool fine, const char *what)
{
    if (!fine) {
        fprintf(stderr, "make_sample: %s failed\n", what);
        exit(1);
    }
}

static picture load(const char *file)
{
    AVFormatContext *format = NULL;
    check(avformat_open_input(&format, file, NULL, NULL) >= 0, file);
    check(avformat_find_stream_info(format, NULL) >= 0, "reading the picture");
    const AVCodecParameters *parameters = format->streams[0]->codecpar;
    const AVCodec *codec = avcodec_find_decoder(parameters->codec_id);
    AVCodecContext *decoder = avcodec_alloc_context3(codec);
    AVPacket *packet = av_packet_alloc();
    AVFrame *frame = av_frame_alloc();
    avcodec_parameters_to_context(decoder, parameters);
    check(avcodec_open2(decoder, codec, NULL) >= 0 && av_read_frame(format, packet) >= 0, "opening the picture");
    check(avcodec_send_packet(decoder, packet) >= 0 && avcodec_send_packet(decoder, NULL) >= 0 &&
              avcodec_receive_frame(decoder, frame) >= 0,
          "decoding the picture");
    picture p = {frame->width, frame->height, frame->width * 3, NULL};
    p.rgb = malloc((size_t)p.stride * (size_t)p.height);
    struct SwsContext *scale = sws_getContext(p.width, p.height, frame->format, p.width, p.height, AV_PIX_FMT_RGB24,
                                              SWS_BICUBIC | SWS_ACCURATE_RND, NULL, NULL, NULL);
    check(p.rgb && scale, "converting the picture");
    sws_scale(scale, (const uint8_t *const *)frame->data, frame->linesize, 0, p.height, &p.rgb, &p.stride);
    return p;
}

/* Adds the pixel at (x, y), between four pixels of the photograph, to sum. */
static void add_sample(const picture *p, double x, double y, double sum[3])
{
    int x0 = (int)fmin(fmax(floor(x), 0), p->width - 2), y0 = (int)fmin(fmax(floor(y), 0), p->height - 2);
    double fx = fmin(fmax(x - x0, 0), 1), fy = fmin(fmax(y - y0, 0), 1);
    const uint8_t *a = p->rgb + (ptrdiff_t)y0 * p->stride + x0 * 3, *b = a + p->stride;
    for (int c = 0; c < 3; c++)
        sum[c] += (1 - fy) * ((1 - fx) * a[c] + fx * a[c + 3]) + fy * ((1 - fx) * b[c] + fx * b[c + 3]);
}

/* A number from the standard normal distribution: splitmix64 and Box-Muller, the same on every machine. */
static double normal(uint64_t *state)
{
    double u[2];
    for (int i = 0; i < 2; i++) {
        uint64_t z = *state += 0x9e3779b97f4a7c15;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        u[i] = (double)((z ^ (z >> 31)) >> 11) * 0x1p-53;
    }
    return sqrt(-2 * log(1 - u[0])) * cos(2 * M_PI * u[1]);
}

/* Renders RGB, 0 to 255; time 0 to 1 within the shot. */
static void render(const picture *p, const view ends[2], double time, uint64_t *noise, float (*rgb)[3])
{
    double e = time * time * (3 - 2 * time); /* starts and stops softly */
    double shake = 6 * sin(9.1 * time) + 3 * sin(23 * time + 1);
    view v = {ends[0].x + e * (ends[1].x - ends[0].x) + shake, ends[0].y + e * (ends[1].y - ends[0].y) - 0.6 * shake,
              ends[0].width + e * (ends[1].width - ends[0].width), ends[0].turn + e * (ends[1].turn - ends[0].turn)};
    double step = v.width / WIDTH, cosine = cos(v.turn), sine = sin(v.turn);
    for (int i = 0; i < HEIGHT; i++)
        for (int j = 0; j < WIDTH; j++) {
            double sum[3] = {0, 0, 0};
            for (int k = 0; k < SUPERSAMPLES * SUPERSAMPLES; k++) {
                double dx = (j - WIDTH / 2.0 + (k % SUPERSAMPLES + 0.5) / SUPERSAMPLES) * step;
                double dy = (i - HEIGHT / 2.0 + (k / SUPERSAMPLES + 0.5) / SUPERSAMPLES) * step;
                add_sample(p, v.x + cosine * dx - sine * dy, v.y + sine * dx + cosine * dy, sum);
            }
            for (int c = 0; c < 3; c++)
                rgb[i * WIDTH + j][c] = (float)(sum[c] / (SUPERSAMPLES * SUPERSAMPLES) + NOISE * normal(noise));
        }
}

static uint8_t to_byte(double v)
{
    return (uint8_t)fmin(fmax(v + 0.5, 0), 255);
}

/* BT.709, limited range, chroma at the left of its two columns. */
static void to_yuv(float (*rgb)[3], AVFrame *f)
{
    for (int i = 0; i < HEIGHT; i++)
        for (int j = 0; j < WIDTH; j++) {
            const float *p = rgb[i * WIDTH + j];
            f->data[0][i * f->linesize[0] + j] =
                to_byte(16 + 219 / 255.0 * (0.2126 * p[0] + 0.7152 * p[1] + 0.0722 * p[2]));
        }
    for (int i = 0; i < HEIGHT / 2; i++)
        for (int j = 0; j < WIDTH / 2; j++) {
            double s[3] = {0, 0, 0};
            for (int k = -1; k <= 1; k++) {
                int x = 2 * j + k < 0 ? 0 : 2 * j + k;
                for (int c = 0; c < 3; c++)
                    s[c] += (k ? 0.125 : 0.25) * (double)(rgb[2 * i * WIDTH + x][c] + rgb[(2 * i + 1) * WIDTH + x][c]);
            }
            double y = 0.2126 * s[0] + 0.7152 * s[1] + 0.0722 * s[2];
            f->data[1][i * f->linesize[1] + j] = to_byte(128 + 224 / 255.0 * (s[2] - y) / 1.8556);
            f->data[2][i * f->linesize[2] + j] = to_byte(128 + 224 / 255.0 * (s[0] - y) / 1.5748);
        }
}

/* A slow arpeggio of plucked notes; t in seconds. */
static double sound(double t)
{
    static const double notes[] = {220.00, 277.18, 329.63, 440.00, 329.63, 277.18};
    double v = 0;
    for (int n = 0; n < 12; n++) {
        double age = t - n * 0.25, f = notes[n % 6];
        if (age > 0)
            v += 0.16 * exp(-3.5 * age) * (1 - exp(-200 * age)) *
                 (sin(2 * M_PI * f * age) + 0.3 * sin(4 * M_PI * f * age));
    }
    return v * fmin(1, (3.0 - t) * 4);
}

/* Sends a frame (NULL: flush) and writes what comes out. */
static void encode(AVFormatContext *format, AVCodecContext *encoder, AVStream *stream, AVFrame *frame)
{
    AVPacket *packet = av_packet_alloc();
    check(packet && avcodec_send_frame(encoder, frame) >= 0, "encoding");
    while (avcodec_receive_packet(encoder, packet) >= 0) {
        if (encoder->codec_type == AVMEDIA_TYPE_VIDEO && packet->duration == 0)
            packet->duration = 1;
        av_packet_rescale_ts(packet, encoder->time_base, stream->time_base);
        packet->stream_index = stream->index;
        check(av_interleaved_write_frame(format, packet) >= 0, "writing");
    }
    av_packet_free(&packet);
}

static AVStream *add_stream(AVFormatContext *format, AVCodecContext *encoder, const AVCodec *codec)
{
    AVStream *stream = avformat_new_stream(format, NULL);
    encoder->flags |= AV_CODEC_FLAG_GLOBAL_HEADER | AV_CODEC_FLAG_BITEXACT;
    check(stream && avcodec_open2(encoder, codec, NULL) >= 0, "opening an encoder");
    check(avcodec_parameters_from_context(stream->codecpar, encoder) >= 0, "describing a stream");
    stream->time_base = encoder->time_base;
    return stream;
}

static AVCodecContext *new_video_encoder(const AVCodec *codec)
{
    AVCodecContext *e = avcodec_alloc_context3(codec);
    e->width = WIDTH;
    e->height = HEIGHT;
    e->time_base = (AVRational){1, RATE};
    e->framerate = (AVRational){RATE, 1};
    e->pix_fmt = AV_PIX_FMT_YUV420P;
    e->colorspace = AVCOL_SPC_BT709;
    e->color_primaries = AVCOL_PRI_BT709;
    e->color_trc = AVCOL_TRC_BT709;
    e->color_range = AVCOL_RANGE_MPEG;
    e->chroma_sample_location = AVCHROMA_LOC_LEFT;
    e->thread_count = 1;
    av_opt_set(e->priv_data, "crf", CRF, 0);
    av_opt_set(e->priv_data, "preset", "fast", 0);
    return e;
}

static void encode_sound(AVFormatContext *format, AVCodecContext *encoder, AVStream *stream)
{
    AVFrame *f = av_frame_alloc();
    f->nb_samples = encoder->frame_size;
    f->format = encoder->sample_fmt;
    f->sample_rate = SAMPLE_RATE;
    av_channel_layout_copy(&f->ch_layout, &encoder->ch_layout);
    check(av_frame_get_buffer(f, 0) >= 0, "allocating sound");
    int total = SAMPLE_RATE * SHOTS * SHOT_FRAMES / RATE;
    for (int done = 0; done < total; done += f->nb_samples) {
        check(av_frame_make_writable(f) >= 0, "allocating sound");
        f->nb_samples = total - done < encoder->frame_size ? total - done : encoder->frame_size;
        f->pts = done;
        for (int i = 0; i < f->nb_samples; i++)
            ((float *)f->data[0])[i] = (float)sound((double)(done + i) / SAMPLE_RATE);
        encode(format, encoder, stream, f);
    }
    encode(format, encoder, stream, NULL);
}

int main(int argc, char **argv)
{
    check(argc == 4, "usage: make_sample MOUNTAIN.jpg WINE.jpg OUT.mp4;");
    AVFormatContext *format = NULL;
    check(avformat_alloc_output_context2(&format, NULL, NULL, argv[3]) >= 0, "choosing the container");
    format->flags |= AVFMT_FLAG_BITEXACT;
    const AVCodec *h264 = avcodec_find_encoder_by_name("libx264"), *aac = avcodec_find_encoder(AV_CODEC_ID_AAC);
    check(h264 && aac, "finding libx264 and aac");
    AVCodecContext *video = new_video_encoder(h264), *audio = avcodec_alloc_context3(aac);
    audio->sample_rate = SAMPLE_RATE;
    audio->sample_fmt = AV_SAMPLE_FMT_FLTP;
    audio->bit_rate = 64000;
    audio->time_base = (AVRational){1, SAMPLE_RATE};
    av_channel_layout_default(&audio->ch_layout, 1);
    AVStream *video_stream = add_stream(format, video, h264), *audio_stream = add_stream(format, audio, aac);
    av_dict_set(&format->metadata, "title", "oasis sample", 0);
    av_dict_set(&format->metadata, "copyright",
                "CC BY 4.0: Aitzol Berasategi (aitzgorri), Jakub Mede (Wine); reduced, moved, compressed", 0);
    check(avio_open(&format->pb, argv[3], AVIO_FLAG_WRITE) >= 0, "creating the file");
    check(avformat_write_header(format, NULL) >= 0, "writing the header");

    static float rgb[WIDTH * HEIGHT][3];
    uint64_t noise = 1;
    for (int shot = 0; shot < SHOTS; shot++) {
        picture p = load(argv[1 + shot]);
        for (int i = 0; i < SHOT_FRAMES; i++) {
            AVFrame *f = av_frame_alloc();
            f->width = WIDTH;
            f->height = HEIGHT;
            f->format = AV_PIX_FMT_YUV420P;
            f->pts = shot * SHOT_FRAMES + i;
            check(av_frame_get_buffer(f, 0) >= 0, "allocating a frame");
            render(&p, path[shot], (double)i / (SHOT_FRAMES - 1), &noise, rgb);
            to_yuv(rgb, f);
            encode(format, video, video_stream, f);
        }
    }
    encode(format, video, video_stream, NULL);
    encode_sound(format, audio, audio_stream);
    check(av_write_trailer(format) >= 0 && avio_closep(&format->pb) >= 0, "finishing the file");
    return 0;
}
