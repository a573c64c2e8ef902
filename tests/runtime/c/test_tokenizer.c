/* test_tokenizer TOKENS: a small tokenizer cut at every byte, with every bit flipped, and used.
 * test_tokenizer TOKENS TEXTS: ids of each line of a file, and under them what the ids say. */
#define _POSIX_C_SOURCE 200809L
#include "edgec/tokenizer.h"
#include "expect.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST_IDS = 4096, MOST_BYTES = 1 << 16 };

static void show_line(edgec_tokenizer *self, const char *line, size_t bytes) {
  static int64_t ids[MOST_IDS];
  static char text[MOST_BYTES];
  int32_t count;
  EXPECT(edgec_tokenize(self, line, bytes, ids, MOST_IDS, &count) == EDGEC_OK);
  for (int32_t i = 0; i < count; i++) printf("%s%d", i ? " " : "", (int)ids[i]);
  EXPECT(edgec_detokenize(self, ids, count, text, sizeof text, NULL) == EDGEC_OK);
  printf("\n%s\n", text);
}

static void show(const char *tokens, const char *texts) {
  static char line[MOST_BYTES];
  edgec_tokenizer *self;
  EXPECT(edgec_tokenizer_create(tokens, NULL, &self, NULL) == EDGEC_OK);
  FILE *file = fopen(texts, "rb");
  EXPECT(file);
  while (fgets(line, sizeof line, file)) {
    char *block = malloc(strlen(line));
    EXPECT(block);
    size_t bytes = strlen(line) - 1;
    memcpy(block, line, bytes);
    show_line(self, block, bytes);
    free(block);
  }
  fclose(file);
  edgec_tokenizer_destroy(self);
}

static void damage(const char *tokens) {
  static unsigned char bytes[1 << 20];
  FILE *file = fopen(tokens, "rb");
  EXPECT(file);
  size_t size = fread(bytes, 1, sizeof bytes, file);
  fclose(file);
  size_t step = size > 4096 ? size / 2048 : 1; /* of a large file some bytes */
  for (size_t cut = 0; cut < size; cut += step) LLVMFuzzerTestOneInput(bytes, cut);
  for (size_t bit = 0; bit < size * 8; bit += step > 1 ? step * 8 - 1 : 1) {
    bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
    LLVMFuzzerTestOneInput(bytes, size);
    bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
  }
}

int main(int count, char **words) {
  EXPECT(count == 2 || count == 3);
  if (count == 3) {
    show(words[1], words[2]);
  } else {
    damage(words[1]);
  }
  return 0;
}
