/* Byte-pair encoding as sentencepiece's BPE model does it: the pair with the best score is merged
 * first, the leftmost of equals. Pairs wait in a heap; those whose symbols have changed are left.
 *
 * Source: Sennrich, Haddow, Birch, 2016, arXiv 1508.07909, algorithm 1. */
#include "platform.h"
#include "tokens.h"
#include "utf8.h"

typedef struct merger {
  edgec_tokenizer *self;
  edgec_symbol *symbols;
  edgec_pair *heap;
  int32_t n_symbols, n_pairs;
} merger;

static int is_before(const edgec_pair *a, const edgec_pair *b) {
  return a->score > b->score || (a->score == b->score && a->left < b->left);
}

static void push(merger *m, edgec_pair pair) {
  int32_t at = m->n_pairs++;
  while (at > 0 && is_before(&pair, &m->heap[(at - 1) / 2])) {
    m->heap[at] = m->heap[(at - 1) / 2];
    at = (at - 1) / 2;
  }
  m->heap[at] = pair;
}

static edgec_pair pop(merger *m) {
  edgec_pair top = m->heap[0], last = m->heap[--m->n_pairs];
  int32_t at = 0;
  for (int32_t child = 1; child < m->n_pairs; child = 2 * at + 1) {
    if (child + 1 < m->n_pairs && is_before(&m->heap[child + 1], &m->heap[child])) child++;
    if (!is_before(&m->heap[child], &last)) break;
    m->heap[at] = m->heap[child];
    at = child;
  }
  m->heap[at] = last;
  return top;
}

/* Let a pair wait, where its two symbols together are a piece. */
static void consider(merger *m, int32_t left, int32_t right) {
  if (left < 0 || right < 0) return;
  const edgec_symbol *a = &m->symbols[left], *b = &m->symbols[right];
  if (a->frozen || b->frozen) return;
  int32_t bytes = a->bytes + b->bytes;
  int32_t piece = edgec_find_text(&m->self->texts, m->self->normal + a->begin, bytes);
  int kind = piece < 0 ? EDGEC_NO_PIECE : m->self->source.kinds[piece];
  if (kind != EDGEC_NORMAL && kind != EDGEC_USER_DEFINED) return;
  edgec_pair pair = {m->self->source.scores[piece], left, right, bytes};
  push(m, pair);
}

/* Bytes of the longest user-defined piece at `at`, which is never merged; 0 for none. */
static int32_t frozen_bytes(const edgec_tokenizer *self, int32_t at, int32_t bytes) {
  if (!(self->source.flags & EDGEC_HAS_USER_DEFINED)) return 0;
  edgec_range range = edgec_all_texts(&self->texts);
  int32_t longest = 0;
  for (int32_t i = at; i < bytes && edgec_narrow(&self->texts, &range, self->normal[i]); i++) {
    int32_t piece = edgec_exactly(&self->texts, &range);
    if (piece >= 0 && self->source.kinds[piece] == EDGEC_USER_DEFINED) longest = i + 1 - at;
  }
  return longest;
}

static void start_with_characters(merger *m, int32_t bytes) {
  for (int32_t at = 0; at < bytes;) {
    int32_t frozen = frozen_bytes(m->self, at, bytes);
    int32_t width = frozen ? frozen : edgec_utf8_width(m->self->normal[at]);
    if (width > bytes - at) width = bytes - at;
    int32_t after = at + width < bytes ? m->n_symbols + 1 : -1;
    edgec_symbol symbol = {at, width, m->n_symbols - 1, after, frozen > 0};
    m->symbols[m->n_symbols++] = symbol;
    at += width;
  }
}

static void merge(merger *m, const edgec_pair *pair) {
  edgec_symbol *left = &m->symbols[pair->left], *right = &m->symbols[pair->right];
  if (!left->bytes || !right->bytes || left->bytes + right->bytes != pair->bytes) return;
  left->bytes += right->bytes;
  left->after = right->after;
  if (right->after >= 0) m->symbols[right->after].before = pair->left;
  right->bytes = 0;
  consider(m, left->before, pair->left);
  consider(m, pair->left, left->after);
}

void edgec_merge_pairs(edgec_ids *to, int32_t bytes) {
  merger m = {to->self, to->self->symbols, to->self->pairs, 0, 0};
  start_with_characters(&m, bytes);
  for (int32_t i = 1; i < m.n_symbols; i++) consider(&m, i - 1, i);
  while (m.n_pairs) {
    edgec_pair best = pop(&m);
    merge(&m, &best);
  }
  for (int32_t i = m.n_symbols ? 0 : -1; i >= 0; i = m.symbols[i].after) {
    const edgec_symbol *symbol = &m.symbols[i];
    int32_t end = symbol->begin + symbol->bytes;
    int32_t piece =
        edgec_find_text(&to->self->texts, to->self->normal + symbol->begin, symbol->bytes);
    int known = piece >= 0 && to->self->source.kinds[piece] != EDGEC_NO_PIECE;
    edgec_put_piece(to, symbol->begin, end, known ? piece : -1);
  }
}
