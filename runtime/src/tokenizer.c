/* Tokenizers: opening, text to ids, the choice of a token. */
#include "errors.h"
#include "platform.h"
#include "tokens.h"
#include "utf8.h"

enum { DEFAULT_BYTES = 16384, MOST_BYTES = 1 << 24 };

static const edgec_tokenizer_options defaults = EDGEC_TOKENIZER_DEFAULTS;

/* ---------------------------------------------------------------- opening */
static edgec_status check_options(const edgec_tokenizer_options *options, const char *path,
                                  char *error) {
  if (!path && !options->file) {
    return edgec_explain(error, EDGEC_NULL_ARGUMENT,
                         "[tokenizer] got no path and no memory; need one of them");
  }
  if (options->verify != 0 && options->verify != 1) {
    return edgec_explain(error, EDGEC_BAD_OPTION, "[verify] got %d; need 0 or 1", options->verify);
  }
  if (options->max_bytes < 0 || options->max_bytes > MOST_BYTES) {
    return edgec_explain(error, EDGEC_BAD_OPTION, "[max_bytes] got %d; need 0 <= max_bytes <= %d",
                         options->max_bytes, MOST_BYTES);
  }
  return EDGEC_OK;
}

static edgec_status open_file(edgec_tokenizer *self, const char *path,
                              const edgec_tokenizer_options *options, char *error) {
  const char *file = path ? edgec_shown_path(path) : "options.file";
  const void *bytes = options->file;
  uint64_t size = options->file_size;
  if (!bytes) {
    edgec_status status = edgec_file_map(&self->file, path, error);
    if (status) return status;
    bytes = self->file.bytes;
    size = self->file.size;
  }
  edgec_status status = edgec_container_open(&self->container, bytes, size, EDGEC_KIND_TOKENS,
                                             options->verify, file, error);
  return status ? status : edgec_read_tokens(self, file, error);
}

/* One block for all: what needs the greatest alignment first. */
static edgec_status reserve_room(edgec_tokenizer *self, char *error) {
  size_t most = (size_t)self->max_bytes;
  int merges = (self->source.flags & EDGEC_MERGES_PAIRS) != 0;
  size_t pairs = merges ? 3 * most * sizeof(edgec_pair) : 0;
  size_t work = merges ? most * sizeof(edgec_symbol) : (most + 1) * sizeof(edgec_node);
  unsigned char *block = edgec_reserve(pairs + work + most);
  if (!block) {
    return edgec_explain(error, EDGEC_OUT_OF_MEMORY, "[tokenizer] no memory; need %llu bytes",
                         (unsigned long long)(pairs + work + most));
  }
  self->room = block;
  if (merges) {
    self->pairs = (edgec_pair *)(void *)block;
    self->symbols = (edgec_symbol *)(void *)(block + pairs);
  } else {
    self->nodes = (edgec_node *)(void *)block;
  }
  self->normal = block + pairs + work;
  return EDGEC_OK;
}

edgec_status edgec_tokenizer_create(const char *path, const edgec_tokenizer_options *options,
                                    edgec_tokenizer **out, char *error) {
  if (error) error[0] = 0;
  if (!out) {
    return edgec_explain(error, EDGEC_NULL_ARGUMENT, "[tokenizer] got NULL; need out");
  }
  *out = NULL;
  if (!options) options = &defaults;
  edgec_status status = check_options(options, path, error);
  if (status) return status;
  edgec_tokenizer *self = edgec_reserve(sizeof *self);
  if (!self) return edgec_explain(error, EDGEC_OUT_OF_MEMORY, "[tokenizer] no memory");
  self->max_bytes = options->max_bytes ? options->max_bytes : DEFAULT_BYTES;
  status = open_file(self, path, options, error);
  if (!status) status = reserve_room(self, error);
  if (status) {
    edgec_tokenizer_destroy(self);
    return status;
  }
  *out = self;
  return EDGEC_OK;
}

void edgec_tokenizer_destroy(edgec_tokenizer *self) {
  if (!self) return;
  edgec_release(self->room);
  edgec_file_unmap(&self->file);
  edgec_release(self);
}

const char *edgec_tokenizer_error(const edgec_tokenizer *self) { return self ? self->error : ""; }

/* ---------------------------------------------------------------- text to ids */
void edgec_put_id(edgec_ids *to, int32_t id) {
  if (to->count < to->capacity) to->ids[to->count] = id;
  to->count++;
}

static int32_t id_of(const edgec_tokenizer *self, int32_t text) {
  return text >= 0 && self->ids[text] >= 0 ? self->ids[text] : self->unknown;
}

void edgec_put_unknown(edgec_ids *to) {
  if (to->run_begin == to->run_end) return;
  const edgec_tokenizer *self = to->self;
  int32_t bytes = to->run_end - to->run_begin;
  /* Characters that are no piece may still be a word of the vocabulary, as the target's are. */
  edgec_put_id(to, id_of(self, edgec_find_text(&self->texts, self->normal + to->run_begin, bytes)));
  to->run_begin = to->run_end;
}

static void put_byte(edgec_ids *to, unsigned char byte) {
  static const char digits[] = "0123456789ABCDEF";
  unsigned char text[] = {'<', '0', 'x', 0, 0, '>'};
  text[3] = (unsigned char)digits[byte >> 4];
  text[4] = (unsigned char)digits[byte & 15];
  edgec_put_id(to, id_of(to->self, edgec_find_text(&to->self->texts, text, 6)));
}

void edgec_put_piece(edgec_ids *to, int32_t begin, int32_t end, int32_t piece) {
  const edgec_tokenizer *self = to->self;
  int is_unknown = piece < 0 || self->source.kinds[piece] == EDGEC_UNKNOWN;
  if (!is_unknown) {
    edgec_put_unknown(to);
    edgec_put_id(to, id_of(self, piece));
  } else if (self->source.flags & EDGEC_BYTE_FALLBACK) {
    for (int32_t i = begin; i < end; i++) put_byte(to, self->normal[i]);
  } else {
    if (to->run_begin == to->run_end) to->run_begin = begin;
    to->run_end = end;
  }
}

/* Bytes of a language token, such as ">>de<<", that the text begins with: up to the last "<<"
 * before the first space; 0 for none. */
static int32_t language_bytes(const unsigned char *text, int32_t bytes) {
  int32_t found = 0;
  uint32_t code;
  if (bytes < 5 || memcmp(text, ">>", 2)) return 0;
  for (int32_t at = 2; at < bytes;) {
    int32_t width = edgec_utf8_next(text + at, bytes - at, &code);
    if (edgec_is_space(code)) break;
    if (at > 2 && bytes - at >= 2 && memcmp(text + at, "<<", 2) == 0) found = at + 2;
    at += width;
  }
  return found;
}

static edgec_status check_text(edgec_tokenizer *self, const unsigned char *text, size_t bytes) {
  if (bytes > INT32_MAX / 4) {
    return edgec_explain(self->error, EDGEC_TOO_LONG,
                         "[tokenize] got a text of %llu bytes; need less; split the text",
                         (unsigned long long)bytes);
  }
  uint32_t code;
  for (int32_t at = 0, width; at < (int32_t)bytes; at += width) {
    width = edgec_utf8_next(text + at, (int32_t)bytes - at, &code);
    if (width == 0) {
      return edgec_explain(self->error, EDGEC_BAD_TEXT,
                           "[tokenize] got byte %d of 0x%x; need UTF-8", at, text[at]);
    }
  }
  return EDGEC_OK;
}

edgec_status edgec_tokenize(edgec_tokenizer *self, const char *text, size_t bytes, int64_t *ids,
                            int32_t capacity, int32_t *count) {
  if (!self) return EDGEC_NULL_ARGUMENT;
  if ((!text && bytes) || (!ids && capacity > 0) || !count) {
    return edgec_explain(self->error, EDGEC_NULL_ARGUMENT,
                         "[tokenize] got NULL; need text, ids and count");
  }
  *count = 0;
  const unsigned char *from = (const unsigned char *)(bytes ? text : "");
  edgec_status status = check_text(self, from, bytes);
  if (status) return status;
  int32_t end = (int32_t)bytes, language = language_bytes(from, end), begin = 0, normal = 0;
  if (language) begin = edgec_skip_spaces(from, language, end);
  status = edgec_normalize(self, from + begin, end - begin, &normal);
  if (status) return status;
  edgec_ids to = {self, ids, capacity, 0, 0, 0};
  if (language) edgec_put_id(&to, id_of(self, edgec_find_text(&self->texts, from, language)));
  (self->source.flags & EDGEC_MERGES_PAIRS ? edgec_merge_pairs : edgec_split_unigram)(&to, normal);
  edgec_put_unknown(&to);
  edgec_put_id(&to, self->end);
  if (to.count > capacity) {
    return edgec_explain(self->error, EDGEC_TOO_LONG,
                         "[tokenize] got a text of %d tokens; need at most %d; split the text",
                         to.count, capacity);
  }
  *count = to.count;
  return EDGEC_OK;
}

/* ---------------------------------------------------------------- generation */
const edgec_generation *edgec_generation_of(const edgec_tokenizer *self) {
  return self ? &self->generation : NULL;
}

static int is_banned(const edgec_tokenizer *self, int64_t token) {
  for (int32_t i = 0; i < self->n_banned; i++) {
    if (self->banned[i] == token) return 1;
  }
  return 0;
}

int64_t edgec_choose_token(const edgec_tokenizer *self, const float *logits, int64_t count,
                           int64_t position) {
  if (!self || !logits) return -1;
  if (position == 0 && self->generation.forced >= 0) return self->generation.forced;
  int64_t best = -1;
  for (int64_t i = 0; i < count; i++) {
    if ((best < 0 || logits[i] > logits[best]) && !is_banned(self, i)) best = i;
  }
  return best;
}
