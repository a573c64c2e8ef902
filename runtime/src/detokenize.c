/* Ids to text, as sentencepiece decodes pieces. */
#include "errors.h"
#include "platform.h"
#include "tokens.h"
#include "utf8.h"

/* Text being written. `size` grows beyond the capacity, so that the need is known. */
typedef struct writer {
  const edgec_tokenizer *self;
  unsigned char *to;
  size_t capacity, size;
  unsigned char pending[4]; /* byte pieces that are not yet a character */
  int32_t n_pending;
  int at_start, saw_space; /* no text yet; the last piece's space was left out for it */
} writer;

static void put(writer *w, const unsigned char *bytes, int32_t count) {
  for (int32_t i = 0; i < count; i++, w->size++) {
    if (w->size < w->capacity) w->to[w->size] = bytes[i];
  }
}

/* Write the first pending character, U+FFFD for a byte that begins none. */
static void put_pending(writer *w) {
  static const unsigned char replacement[] = {0xEF, 0xBF, 0xBD};
  uint32_t code;
  int32_t width = edgec_utf8_next(w->pending, w->n_pending, &code);
  if (width) {
    put(w, w->pending, width);
  } else {
    put(w, replacement, 3);
    width = 1;
  }
  w->n_pending -= width;
  for (int32_t i = 0; i < w->n_pending; i++) w->pending[i] = w->pending[i + width];
}

/* The text of a piece, U+2581 as a space. */
static void put_spaced(writer *w, const unsigned char *text, int32_t bytes) {
  static const unsigned char symbol[] = {0xE2, 0x96, 0x81};
  for (int32_t at = 0; at < bytes;) {
    int is_space = bytes - at >= 3 && memcmp(text + at, symbol, 3) == 0;
    put(w, is_space ? (const unsigned char *)" " : text + at, 1);
    at += is_space ? 3 : 1;
  }
}

/* "<0x0A>" -> 10. */
static unsigned char byte_of(const unsigned char *text, int32_t bytes) {
  int32_t value = 0;
  for (int32_t i = 3; i < 5 && i < bytes; i++) {
    value = value * 16 + (text[i] <= '9' ? text[i] - '0' : text[i] - 'A' + 10);
  }
  return (unsigned char)value;
}

static void put_plain(writer *w, const unsigned char *text, int32_t bytes) {
  static const unsigned char symbol[] = {0xE2, 0x96, 0x81};
  uint32_t flags = w->self->target.flags;
  w->saw_space = 0;
  if (w->at_start && flags & (EDGEC_DUMMY_PREFIX | EDGEC_TRIMS_SPACES) && bytes >= 3 &&
      memcmp(text, symbol, 3) == 0) {
    text += 3;
    bytes -= 3;
    w->saw_space = !(flags & EDGEC_TRIMS_SPACES);
  }
  put_spaced(w, text, bytes);
}

static void put_text(writer *w, int32_t text) {
  const edgec_texts *texts = &w->self->texts;
  const unsigned char *bytes = texts->bytes + texts->starts[text];
  int32_t count = texts->starts[text + 1] - texts->starts[text];
  const edgec_pieces *pieces = &w->self->target;
  int kind = pieces->kinds[text];
  if (kind == EDGEC_BYTE) {
    if (w->n_pending == 4) put_pending(w);
    w->pending[w->n_pending++] = byte_of(bytes, count);
    return;
  }
  while (w->n_pending) put_pending(w);
  if (w->saw_space || w->size) w->at_start = 0;
  w->saw_space = 0;
  if (kind == EDGEC_UNKNOWN) {
    put(w, pieces->unknown, pieces->unknown_bytes);
  } else if (kind == EDGEC_NO_PIECE) {
    put(w, bytes, count);
  } else if (kind != EDGEC_CONTROL) {
    put_plain(w, bytes, count);
  }
}

edgec_status edgec_detokenize(edgec_tokenizer *self, const int64_t *ids, int32_t count, char *text,
                              size_t capacity, size_t *bytes) {
  if (!self) return EDGEC_NULL_ARGUMENT;
  if ((!ids && count > 0) || !text || !capacity) {
    return edgec_explain(self->error, EDGEC_NULL_ARGUMENT,
                         "[detokenize] got NULL or no room; need ids and text");
  }
  if (bytes) *bytes = 0;
  unsigned char *to = (unsigned char *)text;
  writer w = {self, to, capacity, 0, {0}, 0, 1, 0};
  for (int32_t i = 0; i < count; i++) {
    int32_t piece = ids[i] >= 0 && ids[i] < self->n_ids ? self->of_id[ids[i]] : -1;
    if (piece >= 0) put_text(&w, piece);
  }
  while (w.n_pending) put_pending(&w);
  if (w.size >= capacity || w.size > INT32_MAX) {
    text[0] = 0;
    return edgec_explain(self->error, EDGEC_TOO_LONG,
                         "[detokenize] got room for %llu bytes; need %llu",
                         (unsigned long long)capacity, (unsigned long long)w.size + 1);
  }
  int32_t begin = edgec_skip_spaces(to, 0, (int32_t)w.size);
  int32_t end = edgec_drop_spaces(to, begin, (int32_t)w.size);
  for (int32_t i = begin; i < end; i++) to[i - begin] = to[i];
  to[end - begin] = 0;
  if (bytes) *bytes = (size_t)(end - begin);
  return EDGEC_OK;
}
