/* The most probable sequence of pieces (Viterbi), as sentencepiece's unigram model finds it.
 *
 * Source: Kudo, 2018, arXiv 1804.10959, eq. 7. Scores are rounded to float after each piece, as
 * in the library's unigram_model.cc, since the choice between equals depends on it;
 * so it does on the score of user-defined pieces, which is that of version 0.2.3. */
#include "platform.h"
#include "tokens.h"
#include "utf8.h"

static void offer(edgec_node *node, float score, int32_t start, int32_t piece) {
  if (node->start >= 0 && !(score > node->score)) return;
  node->score = score;
  node->start = start;
  node->piece = piece;
}

/* All pieces that begin at `start`; whether one of them is the first character. */
static int offer_pieces(edgec_tokenizer *self, int32_t start, int32_t width, int32_t bytes) {
  const edgec_pieces *pieces = &self->source;
  double so_far = (double)self->nodes[start].score;
  edgec_range range = edgec_all_texts(&self->texts);
  int has_character = 0;
  for (int32_t at = start; at < bytes; at++) {
    if (!edgec_narrow(&self->texts, &range, self->normal[at])) break;
    int32_t piece = edgec_exactly(&self->texts, &range);
    int kind = piece < 0 ? EDGEC_NO_PIECE : pieces->kinds[piece];
    if (kind != EDGEC_NORMAL && kind != EDGEC_USER_DEFINED) continue;
    int32_t length = at + 1 - start;
    double score = kind == EDGEC_USER_DEFINED ? length * 0.1 - 0.1 : (double)pieces->scores[piece];
    offer(&self->nodes[at + 1], (float)(score + so_far), start, piece);
    has_character |= length == width;
  }
  return has_character;
}

static void find_best(edgec_tokenizer *self, int32_t bytes) {
  for (int32_t i = 0; i <= bytes; i++) self->nodes[i].start = -1;
  self->nodes[0].score = 0.0f;
  float unknown = self->source.penalty[0];
  for (int32_t start = 0; start < bytes;) {
    int32_t width = edgec_utf8_width(self->normal[start]);
    if (width > bytes - start) width = bytes - start;
    if (!offer_pieces(self, start, width, bytes)) {
      offer(&self->nodes[start + width], unknown + self->nodes[start].score, start, -1);
    }
    start += width;
  }
}

void edgec_split_unigram(edgec_ids *to, int32_t bytes) {
  edgec_tokenizer *self = to->self;
  find_best(self, bytes);
  for (int32_t end = bytes; end > 0; end = self->nodes[end].start) {
    self->nodes[self->nodes[end].start].next = end;
  }
  for (int32_t at = 0; at < bytes; at = self->nodes[at].next) {
    int32_t end = self->nodes[at].next;
    edgec_put_piece(to, at, end, self->nodes[end].piece);
  }
}
