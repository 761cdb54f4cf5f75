/*
 * Reads SqueezeNet 1.1 from ncnn's two files.  NAME.param is text: a magic number, counts, then a line per layer
 *     TYPE NAME INPUTS OUTPUTS names... key=value...
 * of which only convolutions matter (0 = channels out, 1 = side, 3 = stride, 4 = padding, 6 = number of weights);
 * NAME.bin holds for each of them, in order, a tag of 4 bytes (0 = float, 0x01306B47 = half, filled up to 4 bytes), the
 * weights [out][in][side][side], and the bias as float.  All sizes are checked against the network.
 */
#include "metrics/squeezenet.h"

#include "base/memory.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_PARAM = 1 << 20, MOST_BIN = 64 << 20 };

struct shape {
    int in, out, side;
};

static struct shape shape_of(int i)
{
    static const int narrow[8] = {16, 16, 32, 32, 48, 48, 64, 64}, wide[8] = {64, 64, 128, 128, 192, 192, 256, 256};
    if (i == 0)
        return (struct shape){3, 64, 3};
    int f = (i - 1) / 3, part = (i - 1) % 3;
    if (part == 0)
        return (struct shape){f == 0 ? 64 : 2 * wide[f - 1], narrow[f], 1};
    return (struct shape){narrow[f], wide[f], part == 1 ? 1 : 3};
}

/* The file with a zero behind it; freed by oas_free. */
static oasis_status read_file(const char *path, size_t most, unsigned char **data, size_t *size, oasis_message *message)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return oas_fail(message, OASIS_E_IO, "cannot open the weights '%s': %s", path, strerror(errno));
    *data = oas_alloc(most + 1, 1);
    oasis_status status = *data ? OASIS_OK : oas_fail_memory(message, most, "weights");
    if (*data) {
        *size = fread(*data, 1, most, file);
        if (ferror(file))
            status = oas_fail(message, OASIS_E_IO, "cannot read the weights '%s'", path);
    }
    fclose(file);
    return status;
}

/* ---- text -------------------------------------------------------------------------------------------------------- */

/* The value of "key=" in a layer's line, or `otherwise`. */
static long value_of(const char *line, int key, long otherwise)
{
    char text[16];
    snprintf(text, sizeof text, " %d=", key);
    const char *found = strstr(line, text);
    return found ? strtol(found + strlen(text), NULL, 10) : otherwise;
}

static bool fits(const char *line, int i)
{
    struct shape s = shape_of(i);
    return value_of(line, 0, 0) == s.out && value_of(line, 1, 0) == s.side && value_of(line, 2, 1) == 1 &&
           value_of(line, 3, 1) == (i == 0 ? 2 : 1) && value_of(line, 4, 0) == (i > 0 && s.side == 3) &&
           value_of(line, 5, 0) == 1 && value_of(line, 6, 0) == (long)s.out * s.in * s.side * s.side;
}

static oasis_status check_text(char *text, const char *path, oasis_message *message)
{
    int found = 0;
    char *rest = text;
    if (strncmp(text, "7767517", 7) != 0)
        return oas_fail(message, OASIS_E_FORMAT, "%s is not a network of ncnn: it does not begin with 7767517", path);
    for (char *line = strtok_r(text, "\n", &rest); line && found < OAS_SQUEEZENET_CONVS;
         line = strtok_r(NULL, "\n", &rest)) {
        if (strncmp(line, "Convolution ", 12) != 0)
            continue;
        if (!fits(line, found))
            return oas_fail(message, OASIS_E_FORMAT, "%s: convolution %d is not that of SqueezeNet 1.1: %.80s", path,
                            found + 1, line);
        found++;
    }
    if (found < OAS_SQUEEZENET_CONVS)
        return oas_fail(message, OASIS_E_FORMAT, "%s has %d convolutions, SqueezeNet 1.1 has %d", path, found,
                        OAS_SQUEEZENET_CONVS);
    return OASIS_OK;
}

/* ---- weights ----------------------------------------------------------------------------------------------------- */

static float half_value(unsigned h)
{
    int exponent = h >> 10 & 31;
    double fraction = (h & 1023) / 1024., value = exponent == 31  ? (double)NAN
                                                  : exponent == 0 ? ldexp(fraction, -14)
                                                                  : ldexp(1 + fraction, exponent - 15);
    return (float)(h & 0x8000 ? -value : value);
}

static float float_at(const unsigned char *p)
{
    uint32_t bits = p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* One convolution from the front of *at, in the network's order; false when it is cut off or not finite. */
static bool take_conv(squeezenet_conv *c, const unsigned char **at, const unsigned char *end)
{
    size_t inputs = (size_t)c->in * (size_t)(c->side * c->side), n = inputs * (size_t)c->out;
    if (end - *at < 4)
        return false;
    const unsigned char *p = *at;
    bool half = p[0] == 0x47 && p[1] == 0x6B && p[2] == 0x30 && p[3] == 0x01;
    if (!half && (p[0] || p[1] || p[2] || p[3]))
        return false;
    p += 4;
    size_t bytes = half ? (2 * n + 3) / 4 * 4 : 4 * n;
    if ((size_t)(end - p) < bytes + 4 * (size_t)c->out)
        return false;
    for (size_t i = 0; i < n; i++) {
        float w = half ? half_value(p[2 * i] | (unsigned)p[2 * i + 1] << 8) : float_at(p + 4 * i);
        size_t o = i / inputs, in = i % inputs / (size_t)(c->side * c->side), k = i % (size_t)(c->side * c->side);
        if (!isfinite(w))
            return false;
        c->weight[(k * (size_t)c->in + in) * (size_t)c->out + o] = w;
    }
    for (int o = 0; o < c->out; o++) {
        c->bias[o] = float_at(p + bytes + 4 * (size_t)o);
        if (!isfinite(c->bias[o]))
            return false;
    }
    *at = p + bytes + 4 * (size_t)c->out;
    return true;
}

static oasis_status take_all(squeezenet *net, const unsigned char *data, size_t size, const char *path,
                             oasis_message *message)
{
    const unsigned char *at = data;
    for (int i = 0; i < OAS_SQUEEZENET_CONVS; i++) {
        squeezenet_conv *c = &net->conv[i];
        struct shape s = shape_of(i);
        size_t n = (size_t)s.in * (size_t)s.out * (size_t)(s.side * s.side);
        *c = (squeezenet_conv){s.in, s.out, s.side, oas_alloc(n, sizeof(float)),
                               oas_alloc((size_t)s.out, sizeof(float))};
        if (!c->weight || !c->bias)
            return oas_fail_memory(message, n * sizeof(float), "weights");
        if (!take_conv(c, &at, data + size))
            return oas_fail(message, OASIS_E_FORMAT,
                            "%s is damaged: the weights of convolution %d are cut off, of unknown type or not finite",
                            path, i + 1);
    }
    return OASIS_OK;
}

oasis_status oas_squeezenet_read(squeezenet *net, const char *param_path, oasis_message *message)
{
    static const char ending[] = ".param";
    size_t length = strlen(param_path), stem = length - (sizeof ending - 1);
    unsigned char *text = NULL, *data = NULL;
    size_t text_size, size;
    memset(net, 0, sizeof *net);
    if (length < sizeof ending || strcmp(param_path + stem, ending) != 0)
        return oas_fail(message, OASIS_E_ARGUMENT,
                        "'%s' does not end in .param: name ncnn's text file, the .bin is beside it", param_path);
    char *bin_path = oas_text_copy(param_path);
    oasis_status status = bin_path ? read_file(param_path, MOST_PARAM, &text, &text_size, message)
                                   : oas_fail_memory(message, length, "a path");
    if (status >= 0)
        status = check_text((char *)text, param_path, message);
    if (status >= 0) {
        memcpy(bin_path + stem, ".bin", 5);
        status = read_file(bin_path, MOST_BIN, &data, &size, message);
    }
    if (status >= 0)
        status = take_all(net, data, size, bin_path, message);
    if (status < 0)
        oas_squeezenet_free(net);
    oas_free(bin_path);
    oas_free(text);
    oas_free(data);
    return status;
}

void oas_squeezenet_free(squeezenet *net)
{
    for (int i = 0; i < OAS_SQUEEZENET_CONVS; i++) {
        oas_free(net->conv[i].weight);
        oas_free(net->conv[i].bias);
        net->conv[i] = (squeezenet_conv){0};
    }
}
