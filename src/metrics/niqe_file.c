/*
 * Reads a NIQE model from NumPy's .npz: a ZIP archive of .npy files, none of them compressed.  Nothing in the file is
 * trusted: every length is checked against what is there.
 */
#include "metrics/niqe.h"

#include "base/memory.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MOST_BYTES = 1 << 20, N = OAS_NIQE_FEATURES, ZIP_HEADER = 30, NPY_HEADER = 10 };

typedef struct bytes {
    const unsigned char *data;
    size_t size;
} bytes;

static unsigned number(const unsigned char *p, int n)
{
    unsigned value = 0;
    for (int i = n - 1; i >= 0; i--)
        value = value << 8 | p[i];
    return value;
}

/* The contents of the file called `name`, from its local header (PKWARE APPNOTE 4.3.7); empty when it is not there
 * whole and uncompressed. */
static bytes find(bytes zip, const char *name)
{
    size_t at = 0;
    while (zip.size - at >= ZIP_HEADER && number(zip.data + at, 4) == 0x04034b50) {
        const unsigned char *h = zip.data + at;
        unsigned method = number(h + 8, 2), flags = number(h + 6, 2);
        size_t packed = number(h + 18, 4), name_length = number(h + 26, 2), extra = number(h + 28, 2);
        size_t left = zip.size - at - ZIP_HEADER;
        if ((flags & 8) || name_length + extra > left || packed > left - name_length - extra)
            break;
        const unsigned char *contents = h + ZIP_HEADER + name_length + extra;
        if (name_length == strlen(name) && memcmp(h + ZIP_HEADER, name, name_length) == 0 && method == 0)
            return (bytes){contents, packed};
        at += ZIP_HEADER + name_length + extra + packed;
    }
    return (bytes){NULL, 0};
}

/* Reads n doubles (little-endian) of an .npy file; false when it holds anything else.  The order of rows and columns is
 * all the same: what is read is a row, or symmetric. */
static bool read_array(bytes npy, double *out, size_t n)
{
    if (npy.size < NPY_HEADER || memcmp(npy.data, "\x93NUMPY\x01", 7) != 0)
        return false;
    size_t header = number(npy.data + 8, 2);
    if (header > npy.size - NPY_HEADER || npy.size - NPY_HEADER - header != n * sizeof(double) || header >= 1024)
        return false;
    char text[1024];
    memcpy(text, npy.data + NPY_HEADER, header);
    text[header] = 0;
    if (!strstr(text, "'<f8'"))
        return false;
    const unsigned char *p = npy.data + NPY_HEADER + header;
    for (size_t i = 0; i < n; i++, p += 8) {
        uint64_t bits = number(p, 4) | (uint64_t)number(p + 4, 4) << 32;
        memcpy(&out[i], &bits, sizeof bits);
        if (!isfinite(out[i]))
            return false;
    }
    return true;
}

static oasis_status parse(niqe_model *model, bytes zip, const char *path, oasis_message *message)
{
    if (!read_array(find(zip, "mu_pris_param.npy"), model->mean, N) ||
        !read_array(find(zip, "cov_pris_param.npy"), model->covariance[0], (size_t)N * N))
        return oas_fail(message, OASIS_E_FORMAT,
                        "%s is not a NIQE model: expected an uncompressed .npz with mu_pris_param (36 doubles) and "
                        "cov_pris_param (36x36)",
                        path);
    return OASIS_OK;
}

oasis_status oas_niqe_read_model(niqe_model *model, const char *path, oasis_message *message)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return oas_fail(message, OASIS_E_IO, "cannot open the NIQE model '%s': %s", path, strerror(errno));
    unsigned char *data = oas_alloc(MOST_BYTES, 1);
    oasis_status status = data ? OASIS_OK : oas_fail_memory(message, MOST_BYTES, "a NIQE model");
    if (data) {
        size_t size = fread(data, 1, MOST_BYTES, file);
        status = ferror(file) ? oas_fail(message, OASIS_E_IO, "cannot read the NIQE model '%s'", path)
                              : parse(model, (bytes){data, size}, path, message);
    }
    oas_free(data);
    fclose(file);
    return status;
}
