/* SHA-256 (FIPS 180-4), for the digests of model files. */
#ifndef OAS_BASE_SHA256_H
#define OAS_BASE_SHA256_H

#include <stddef.h>
#include <stdint.h>

typedef struct sha256 {
    uint32_t state[8];
    uint64_t bytes;          /* taken so far */
    unsigned char block[64]; /* the part of a block that waits for more */
} sha256;

enum { OAS_SHA256_HEX = 64 }; /* digits of a digest in hexadecimal */

void oas_sha256_begin(sha256 *h);
void oas_sha256_add(sha256 *h, const void *data, size_t size);

/* Writes the digest as 64 lower-case hexadecimal digits and an end mark. */
void oas_sha256_end(sha256 *h, char hex[OAS_SHA256_HEX + 1]);

#endif
