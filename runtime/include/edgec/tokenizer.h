/* Text to token ids and back, for models whose tokenizer is a pair of sentencepiece files with a
 * vocabulary (MarianMT), and what decoding by hand must know: first token, end, limits.
 *
 * Everything is in NAME.tokens, a container as NAME.weights is, which the compiler writes from the
 * model's tokenizer. Tokens are those of the sentencepiece library, for every text.
 *
 * Rules: as runtime.h; all memory is reserved when the file is opened. One tokenizer serves one
 * thread at a time; several may use one file in memory.
 */
#ifndef EDGEC_TOKENIZER_H
#define EDGEC_TOKENIZER_H

#include "edgec/runtime.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct edgec_tokenizer edgec_tokenizer;

typedef struct edgec_tokenizer_options {
  int32_t verify;    /* 1: hash the file when it is opened (default), 0: header and sizes only */
  int32_t max_bytes; /* of a text's normal form; memory is reserved for it. 0: 16384 */
  const void *file;  /* NULL: map the path; else the whole file in memory, 64-byte aligned, which
                        must outlive the tokenizer */
  size_t file_size;
} edgec_tokenizer_options;

#define EDGEC_TOKENIZER_DEFAULTS {1, 0, NULL, 0}

/* How the model generates; -1 for what it does not say. */
typedef struct edgec_generation {
  int64_t start;      /* token that is given to the first step */
  int64_t eos;        /* ends what is generated */
  int64_t pad;        /* filler of rows in a batch */
  int64_t forced;     /* token that comes first whatever the model says */
  int64_t max_source; /* tokens of a text that the model reads, its end included */
  int64_t max_tokens; /* generated at most */
} edgec_generation;

/* Open a file and reserve memory. `out` is NULL after a failure, whose text is written to `error`
 * (EDGEC_ERROR_BYTES; may be NULL). `options` may be NULL; `path` may be, with options.file. */
edgec_status edgec_tokenizer_create(const char *path, const edgec_tokenizer_options *options,
                                    edgec_tokenizer **out, char *error);
void edgec_tokenizer_destroy(edgec_tokenizer *self); /* NULL is fine */

/* Text of the last failure, "" before the first. */
const char *edgec_tokenizer_error(const edgec_tokenizer *self);

/* Ids of a UTF-8 text of `bytes` bytes, the end token included: `count` of them. A first word such
 * as ">>de<<" is one token. EDGEC_TOO_LONG for more than `capacity` ids or max_bytes bytes,
 * EDGEC_BAD_TEXT for bytes that are not UTF-8. */
edgec_status edgec_tokenize(edgec_tokenizer *self, const char *text, size_t bytes, int64_t *ids,
                            int32_t capacity, int32_t *count);

/* Text of ids, with a zero behind it and without space around it; its bytes, without that zero, in
 * `bytes` (may be NULL), since a text may hold zeros. Special tokens, and ids that are none, write
 * nothing. EDGEC_TOO_LONG for a text that does not fit into `capacity` bytes with its zero. */
edgec_status edgec_detokenize(edgec_tokenizer *self, const int64_t *ids, int32_t count, char *text,
                              size_t capacity, size_t *bytes);

const edgec_generation *edgec_generation_of(const edgec_tokenizer *self);

/* The most probable token by `count` logits or log probabilities that the model may generate as
 * token number `position`, 0 the first; -1 where it may generate none. The first of equals. */
int64_t edgec_choose_token(const edgec_tokenizer *self, const float *logits, int64_t count,
                           int64_t position);

#ifdef __cplusplus
}
#endif
#endif
