/* SHA-256 (FIPS 180-4). */
#ifndef EDGEC_SHA256_H
#define EDGEC_SHA256_H

#include <stddef.h>
#include <stdint.h>

typedef struct edgec_sha256 {
  uint32_t state[8];
  uint64_t bytes;          /* hashed so far, those in `block` included */
  unsigned char block[64]; /* what does not fill a block yet */
} edgec_sha256;

void edgec_sha256_start(edgec_sha256 *self);
void edgec_sha256_add(edgec_sha256 *self, const void *data, size_t bytes);
void edgec_sha256_end(edgec_sha256 *self, uint8_t digest[32]);

#endif
