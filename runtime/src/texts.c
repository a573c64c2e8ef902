/* Search in the sorted list of texts. */
#include "tokens.h"

edgec_range edgec_all_texts(const edgec_texts *texts) {
  edgec_range all = {0, texts->count, 0};
  return all;
}

/* The byte of a text at `depth`; -1 behind its end, before which such texts are sorted. */
static int byte_at(const edgec_texts *texts, int32_t text, int32_t depth) {
  int32_t start = texts->starts[text];
  return depth < texts->starts[text + 1] - start ? texts->bytes[start + depth] : -1;
}

/* The first text in [low, high) whose byte is not below `byte`. */
static int32_t first_from(const edgec_texts *texts, int32_t low, int32_t high, int32_t depth,
                          int byte) {
  while (low < high) {
    int32_t middle = low + (high - low) / 2;
    if (byte_at(texts, middle, depth) < byte) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

int edgec_narrow(const edgec_texts *texts, edgec_range *range, unsigned char byte) {
  range->low = first_from(texts, range->low, range->high, range->depth, byte);
  range->high = first_from(texts, range->low, range->high, range->depth, byte + 1);
  range->depth++;
  return range->low < range->high;
}

int32_t edgec_exactly(const edgec_texts *texts, const edgec_range *range) {
  if (range->low >= range->high) return -1;
  return byte_at(texts, range->low, range->depth) < 0 ? range->low : -1;
}

int32_t edgec_find_text(const edgec_texts *texts, const unsigned char *bytes, int32_t count) {
  edgec_range range = edgec_all_texts(texts);
  for (int32_t i = 0; i < count; i++) {
    if (!edgec_narrow(texts, &range, bytes[i])) return -1;
  }
  return edgec_exactly(texts, &range);
}
