/* What a tokenizer is made of: the arrays of NAME.tokens, and room to work in.
 *
 * All texts, of the vocabulary and of both piece models, are in one list that is sorted by bytes;
 * a place in it stands for the text everywhere. Finding the pieces that a text begins with narrows
 * a range of the list byte by byte, so that the list is its own trie.
 */
#ifndef EDGEC_TOKENS_H
#define EDGEC_TOKENS_H

#include "container.h"
#include "edgec/tokenizer.h"
#include "file.h"

typedef struct edgec_texts {
  const unsigned char *bytes;
  const int32_t *starts; /* count + 1 of them */
  int32_t count;
} edgec_texts;

/* Types of pieces as sentencepiece numbers them; 0 where a text is no piece of the model. */
enum edgec_piece_kind {
  EDGEC_NO_PIECE,
  EDGEC_NORMAL,
  EDGEC_UNKNOWN,
  EDGEC_CONTROL,
  EDGEC_USER_DEFINED,
  EDGEC_UNUSED,
  EDGEC_BYTE
};

enum edgec_piece_flag {
  EDGEC_MERGES_PAIRS = 1, /* BPE; else unigram */
  EDGEC_DUMMY_PREFIX = 2, /* a space before the text */
  EDGEC_TRIMS_SPACES = 4, /* around the text, and all but one between words */
  EDGEC_ESCAPES_SPACES = 8,
  EDGEC_BYTE_FALLBACK = 16,
  EDGEC_HAS_USER_DEFINED = 32
};

/* One sentencepiece model; of the target's only kinds, flags and unknown. */
typedef struct edgec_pieces {
  const float *scores;  /* by text */
  const uint8_t *kinds; /* by text */
  const float *penalty; /* score of an unknown character */
  uint32_t flags;
  const uint32_t *rules; /* double array of what normalization replaces */
  int32_t n_rules;
  const unsigned char *replacements; /* a zero behind each; what leaves of `rules` point to */
  int32_t replacement_bytes;
  const unsigned char *unknown; /* text of the unknown piece */
  int32_t unknown_bytes;
} edgec_pieces;

/* Unigram: the best way to the end of each byte. */
typedef struct edgec_node {
  float score;
  int32_t start, next; /* -1: not reached */
  int32_t piece;       /* -1: an unknown character */
} edgec_node;

/* BPE: what the text is made of, and pairs that may be merged, a heap. */
typedef struct edgec_symbol {
  int32_t begin, bytes, before, after, frozen;
} edgec_symbol;

typedef struct edgec_pair {
  float score;
  int32_t left, right, bytes;
} edgec_pair;

struct edgec_tokenizer {
  edgec_file file;
  edgec_container container;
  edgec_texts texts;
  const int32_t *ids;   /* by text; -1: not in the vocabulary */
  const int32_t *of_id; /* text that an id writes; -1: none */
  int32_t n_ids;
  edgec_pieces source, target;
  const int32_t *banned;
  int32_t n_banned;
  int32_t unknown, end; /* ids */
  edgec_generation generation;
  int32_t max_bytes;
  unsigned char *room;   /* the block that all of the following lie in */
  unsigned char *normal; /* max_bytes */
  edgec_node *nodes;     /* max_bytes + 1; NULL for BPE */
  edgec_symbol *symbols; /* max_bytes; NULL for unigram */
  edgec_pair *pairs;     /* 3 * max_bytes: each merge removes a symbol and makes two pairs */
  char error[EDGEC_ERROR_BYTES];
};

/* Ids being written. */
typedef struct edgec_ids {
  edgec_tokenizer *self;
  int64_t *ids;
  int32_t capacity, count;    /* count grows beyond capacity, so that the need is known */
  int32_t run_begin, run_end; /* unknown characters not yet written; equal: none */
} edgec_ids;

/* Places of all entries of self->container into `self`, checked. */
edgec_status edgec_read_tokens(edgec_tokenizer *self, const char *file, char *error);

/* The normal form of a text into self->normal; its bytes in `made`. */
edgec_status edgec_normalize(edgec_tokenizer *self, const unsigned char *text, int32_t bytes,
                             int32_t *made);

/* Split self->normal into pieces and write their ids. */
void edgec_split_unigram(edgec_ids *to, int32_t bytes);
void edgec_merge_pairs(edgec_ids *to, int32_t bytes);

/* Write the piece of normal[begin..end); -1: unknown characters. */
void edgec_put_piece(edgec_ids *to, int32_t begin, int32_t end, int32_t piece);
void edgec_put_unknown(edgec_ids *to); /* what is not yet written */
void edgec_put_id(edgec_ids *to, int32_t id);

/* Texts that begin with the same `depth` bytes. */
typedef struct edgec_range {
  int32_t low, high, depth;
} edgec_range;

edgec_range edgec_all_texts(const edgec_texts *texts);
/* Those of them whose next byte is this one; 0 where there is none. */
int edgec_narrow(const edgec_texts *texts, edgec_range *range, unsigned char byte);
/* The text of `depth` bytes among them, or -1. */
int32_t edgec_exactly(const edgec_texts *texts, const edgec_range *range);
/* The text of these bytes, or -1. */
int32_t edgec_find_text(const edgec_texts *texts, const unsigned char *bytes, int32_t count);

#endif
