/* What libFuzzer calls with made-up tokenizers: opening them, and all that they then allow.
 *
 * The header's hash is made to fit, since no fuzzer finds one, and the payload's is not checked:
 * what a file says may be nonsense, but must not lead out of its memory. The bytes lie in a block
 * of exactly their size, so that the sanitizer sees one byte too many. */
#define _POSIX_C_SOURCE 200809L
#include "container.h"
#include "edgec/tokenizer.h"
#include "expect.h"
#include "sha256.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const texts[] = {"",
                                    " ",
                                    "the file of the file",
                                    "\xe6\x97\xa5 \xef\xbc\xa1\xef\xac\x81 <sep>ab ",
                                    "\xff",
                                    ">>de<< a\xcc\x88 \xf0\x9f\x98\x80"};

static void make_hash_fit(unsigned char *bytes, size_t size) {
  edgec_header *header = (edgec_header *)(void *)bytes;
  size_t before = offsetof(edgec_header, header_hash), after = before + 32;
  edgec_sha256 hash;
  if (size < sizeof *header || header->header_bytes < after || header->header_bytes > size) return;
  edgec_sha256_start(&hash);
  edgec_sha256_add(&hash, bytes, before);
  edgec_sha256_add(&hash, bytes + after, header->header_bytes - after);
  edgec_sha256_end(&hash, header->header_hash);
}

static void decode(edgec_tokenizer *self, const int64_t *ids, int32_t count) {
  char *text = malloc(64);
  size_t bytes;
  EXPECT(text);
  edgec_status status = edgec_detokenize(self, ids, count, text, 64, &bytes);
  EXPECT(status == EDGEC_OK || status == EDGEC_TOO_LONG);
  EXPECT(status || text[bytes] == 0);
  free(text);
}

static void use(edgec_tokenizer *self) {
  int64_t *ids = malloc(40 * sizeof *ids);
  EXPECT(ids);
  for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
    int32_t count;
    edgec_status status = edgec_tokenize(self, texts[i], strlen(texts[i]), ids, 40, &count);
    EXPECT(status == EDGEC_OK || status == EDGEC_TOO_LONG || status == EDGEC_BAD_TEXT);
    EXPECT((status == EDGEC_OK) == (count > 0));
    if (status) EXPECT(strlen(edgec_tokenizer_error(self)) > 0);
    decode(self, ids, count);
  }
  for (int32_t i = 0; i < 40; i++) ids[i] = i * 7 - 3;
  decode(self, ids, 40);
  float logits[8] = {0};
  int64_t chosen = edgec_choose_token(self, logits, 8, 1);
  EXPECT(chosen >= -1 && chosen < 8);
  free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  void *block;
  EXPECT(posix_memalign(&block, EDGEC_ALIGNMENT, size) == 0);
  if (size) memcpy(block, data, size);
  make_hash_fit(block, size);
  edgec_tokenizer_options options = {0, 128, block, size};
  edgec_tokenizer *self;
  char error[EDGEC_ERROR_BYTES];
  edgec_status status = edgec_tokenizer_create(NULL, &options, &self, error);
  EXPECT((status == EDGEC_OK) == (self != NULL) && (status == EDGEC_OK) == (error[0] == 0));
  if (self) use(self);
  edgec_tokenizer_destroy(self);
  free(block);
  return 0;
}
