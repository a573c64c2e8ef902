/* The normal form of a text, as sentencepiece's Normalizer makes it: rules that replace, spaces
 * trimmed and written as U+2581, one of them before the text. */
#include "errors.h"
#include "platform.h"
#include "tokens.h"
#include "utf8.h"

static const unsigned char space_symbol[3] = {0xE2, 0x96, 0x81};

/* A piece of the text that is replaced as a whole, and by what. */
typedef struct part {
  const unsigned char *bytes;
  int32_t count, consumed;
} part;

typedef struct normalizer {
  const edgec_tokenizer *self;
  const edgec_pieces *pieces;
  unsigned char *to;
  int32_t count, capacity;
  int is_full;
} normalizer;

/* Bytes of the longest user-defined piece that the text begins with; 0 for none. */
static int32_t user_defined(const normalizer *n, const unsigned char *text, int32_t bytes) {
  if (!(n->pieces->flags & EDGEC_HAS_USER_DEFINED)) return 0;
  const edgec_texts *texts = &n->self->texts;
  edgec_range range = edgec_all_texts(texts);
  int32_t longest = 0;
  for (int32_t i = 0; i < bytes && edgec_narrow(texts, &range, text[i]); i++) {
    int32_t found = edgec_exactly(texts, &range);
    if (found >= 0 && n->pieces->kinds[found] == EDGEC_USER_DEFINED) longest = i + 1;
  }
  return longest;
}

/* Units of the double array, as darts-clone lays them out: a label, whether a leaf follows, and how
 * far the children are. */
static uint32_t unit_offset(uint32_t unit) { return (unit >> 10) << ((unit & (1u << 9)) >> 6); }

/* The longest rule that the text begins with: where its replacement is, and its bytes; 0 for none.
 * The array comes from a file: every step is checked. */
static int32_t longest_rule(const edgec_pieces *pieces, const unsigned char *text, int32_t bytes,
                            uint32_t *replacement) {
  uint32_t units = (uint32_t)pieces->n_rules;
  if (units == 0) return 0;
  uint32_t at = unit_offset(pieces->rules[0]);
  int32_t longest = 0;
  for (int32_t i = 0; i < bytes; i++) {
    at ^= text[i];
    if (at >= units) break;
    uint32_t unit = pieces->rules[at];
    if ((unit & (1u << 31 | 0xFFu)) != text[i]) break;
    at ^= unit_offset(unit);
    if (unit >> 8 & 1) {
      if (at >= units) break;
      uint32_t place = pieces->rules[at] & 0x7FFFFFFFu;
      if (place >= (uint32_t)pieces->replacement_bytes) break;
      *replacement = place;
      longest = i + 1;
    }
  }
  return longest;
}

/* What the text, which is not empty, begins with. */
static part next_part(const normalizer *n, const unsigned char *text, int32_t bytes) {
  uint32_t place = 0;
  int32_t length = user_defined(n, text, bytes);
  if (length == 0 && (length = longest_rule(n->pieces, text, bytes, &place)) > 0) {
    const unsigned char *made = n->pieces->replacements + place;
    part replaced = {made, (int32_t)strlen((const char *)made), length};
    return replaced;
  }
  if (length == 0) length = edgec_utf8_width(text[0]); /* valid: it was checked */
  part same = {text, length, length};
  return same;
}

static void put(normalizer *n, const unsigned char *bytes, int32_t count) {
  if (count > n->capacity - n->count) {
    n->is_full = 1;
    return;
  }
  for (int32_t i = 0; i < count; i++) n->to[n->count + i] = bytes[i];
  n->count += count;
}

static void put_space(normalizer *n) {
  if (n->pieces->flags & EDGEC_ESCAPES_SPACES) {
    put(n, space_symbol, 3);
  } else {
    put(n, (const unsigned char *)" ", 1);
  }
}

static void put_part(normalizer *n, const unsigned char *bytes, int32_t count) {
  for (int32_t i = 0; i < count; i++) {
    if (bytes[i] == ' ') {
      put_space(n);
    } else {
      put(n, bytes + i, 1);
    }
  }
}

static int32_t skip_leading(const normalizer *n, const unsigned char *text, int32_t bytes) {
  int32_t at = 0;
  while (at < bytes) {
    part found = next_part(n, text + at, bytes - at);
    if (found.count != 1 || found.bytes[0] != ' ') break;
    at += found.consumed;
  }
  return at;
}

static void drop_trailing(normalizer *n) {
  int escapes = (n->pieces->flags & EDGEC_ESCAPES_SPACES) != 0;
  const unsigned char *space = escapes ? space_symbol : (const unsigned char *)" ";
  int32_t width = escapes ? 3 : 1;
  while (n->count >= width && memcmp(n->to + n->count - width, space, (size_t)width) == 0) {
    n->count -= width;
  }
}

edgec_status edgec_normalize(edgec_tokenizer *self, const unsigned char *text, int32_t bytes,
                             int32_t *made) {
  normalizer n = {self, &self->source, self->normal, 0, self->max_bytes, 0};
  int trims = (n.pieces->flags & EDGEC_TRIMS_SPACES) != 0;
  int32_t at = trims ? skip_leading(&n, text, bytes) : 0;
  if (at < bytes && n.pieces->flags & EDGEC_DUMMY_PREFIX) put_space(&n);
  int after_space = trims;
  while (at < bytes && !n.is_full) {
    part found = next_part(&n, text + at, bytes - at);
    while (after_space && found.count && found.bytes[0] == ' ') found.bytes++, found.count--;
    if (found.count) {
      put_part(&n, found.bytes, found.count);
      after_space = trims && found.bytes[found.count - 1] == ' ';
    }
    at += found.consumed;
  }
  if (n.is_full) {
    return edgec_explain(self->error, EDGEC_TOO_LONG,
                         "[tokenize] got a text of more than %d bytes in its normal form; need at "
                         "most that; split the text or raise max_bytes",
                         self->max_bytes);
  }
  if (trims) drop_trailing(&n);
  *made = n.count;
  return EDGEC_OK;
}
