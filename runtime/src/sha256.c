/* SHA-256 as in FIPS 180-4, section 6.2. The message schedule lives in 16 words that are replaced
 * as the rounds go; rounds are unrolled by 16 so that every index is a constant. */
#include "sha256.h"

#include "platform.h"

static const uint32_t round_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static inline uint32_t rotate_right(uint32_t x, int n) { return x >> n | x << (32 - n); }

static inline uint32_t load_big_endian(const unsigned char *p) {
  return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* w[t] of equation 6.2.2 (1), kept modulo 16. */
#define SCHEDULE(t)                                                                              \
  (w[(t) & 15] += (rotate_right(w[((t) + 14) & 15], 17) ^ rotate_right(w[((t) + 14) & 15], 19) ^ \
                   w[((t) + 14) & 15] >> 10) +                                                   \
                  w[((t) + 9) & 15] +                                                            \
                  (rotate_right(w[((t) + 1) & 15], 7) ^ rotate_right(w[((t) + 1) & 15], 18) ^    \
                   w[((t) + 1) & 15] >> 3))

/* One round; instead of moving the eight variables, the next round names them in rotated order. */
#define ROUND(a, b, c, d, e, f, g, h, t, word)                                                  \
  h += (rotate_right(e, 6) ^ rotate_right(e, 11) ^ rotate_right(e, 25)) + (g ^ (e & (f ^ g))) + \
       round_constants[t] + (word);                                                             \
  d += h;                                                                                       \
  h += (rotate_right(a, 2) ^ rotate_right(a, 13) ^ rotate_right(a, 22)) + ((a & b) | (c & (a | b)))

#define EIGHT_ROUNDS(t, WORD)                            \
  ROUND(a, b, c, d, e, f, g, h, (t), WORD((t)));         \
  ROUND(h, a, b, c, d, e, f, g, (t) + 1, WORD((t) + 1)); \
  ROUND(g, h, a, b, c, d, e, f, (t) + 2, WORD((t) + 2)); \
  ROUND(f, g, h, a, b, c, d, e, (t) + 3, WORD((t) + 3)); \
  ROUND(e, f, g, h, a, b, c, d, (t) + 4, WORD((t) + 4)); \
  ROUND(d, e, f, g, h, a, b, c, (t) + 5, WORD((t) + 5)); \
  ROUND(c, d, e, f, g, h, a, b, (t) + 6, WORD((t) + 6)); \
  ROUND(b, c, d, e, f, g, h, a, (t) + 7, WORD((t) + 7))

#define LOAD(t) (w[t] = load_big_endian(block + 4 * (t)))

static void add_blocks(uint32_t state[8], const unsigned char *block, size_t blocks) {
  for (; blocks; blocks--, block += 64) {
    uint32_t w[16];
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
    uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
    EIGHT_ROUNDS(0, LOAD);
    EIGHT_ROUNDS(8, LOAD);
    for (int t = 16; t < 64; t += 16) {
      EIGHT_ROUNDS(t, SCHEDULE);
      EIGHT_ROUNDS(t + 8, SCHEDULE);
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d;
    state[4] += e, state[5] += f, state[6] += g, state[7] += h;
  }
}

void edgec_sha256_start(edgec_sha256 *self) {
  static const uint32_t initial[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  memcpy(self->state, initial, sizeof initial);
  self->bytes = 0;
}

void edgec_sha256_add(edgec_sha256 *self, const void *data, size_t bytes) {
  if (bytes == 0) return; /* `data` may be NULL then, which memcpy does not take */
  const unsigned char *next = data;
  size_t filled = (size_t)(self->bytes % 64);
  self->bytes += bytes;
  if (filled + bytes < 64) {
    memcpy(self->block + filled, next, bytes);
    return;
  }
  if (filled) {
    memcpy(self->block + filled, next, 64 - filled);
    add_blocks(self->state, self->block, 1);
    next += 64 - filled;
    bytes -= 64 - filled;
  }
  add_blocks(self->state, next, bytes / 64);
  if (bytes % 64) memcpy(self->block, next + bytes / 64 * 64, bytes % 64);
}

void edgec_sha256_end(edgec_sha256 *self, uint8_t digest[32]) {
  static const unsigned char padding[64] = {0x80};
  unsigned char length_bits[8];
  for (int i = 0; i < 8; i++) length_bits[i] = (unsigned char)(self->bytes * 8 >> (56 - 8 * i));
  size_t filled = (size_t)(self->bytes % 64);
  edgec_sha256_add(self, padding, filled < 56 ? 56 - filled : 120 - filled);
  edgec_sha256_add(self, length_bits, 8);
  for (int i = 0; i < 32; i++) digest[i] = (uint8_t)(self->state[i / 4] >> (24 - 8 * (i % 4)));
}
