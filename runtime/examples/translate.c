/* Translates its argument with the reference translator: runtime/README.md says how to build it. */
#include <stdio.h>
#include <string.h>

#include "edgec/tokenizer.h"
#include "translate.h"

enum { TOKENS = 256, HEADS = 8, WIDTH = 32, VOCABULARY = 8000 }; /* as translate.h has them */
static int64_t ids[TOKENS], mask[TOKENS], made[TOKENS];
static float logits[VOCABULARY], cross[4][HEADS * TOKENS * WIDTH]; /* batch 1 */
static char text[8192], error[EDGEC_ERROR_BYTES];

int main(int count, char **words) {
  edgec_instance *model;
  edgec_tokenizer *tokenizer;
  int32_t src, n = 0;
  if (count != 2 || translate_create("translate.weights", NULL, &model, error) ||
      edgec_tokenizer_create("translate.tokens", NULL, &tokenizer, error))
    return printf("usage: translate SENTENCE, beside the model's files\n%s\n", error), 2;
  edgec_status failed = edgec_tokenize(tokenizer, words[1], strlen(words[1]), ids, TOKENS, &src);
  if (failed) return puts(edgec_tokenizer_error(tokenizer)), 1;
  for (int32_t i = 0; i < src; i++) mask[i] = 1;
  failed = translate_encode(model, 1, src, ids, mask, cross[0], cross[1], cross[2], cross[3]);
  const edgec_generation *limits = edgec_generation_of(tokenizer);
  int64_t most = src > 1 ? limits->max_tokens : 0; /* nothing for a blank text */
  for (int64_t token = limits->start; !failed && n < most; made[n++] = token) {
    failed = translate_step(model, 1, src, n, &token, mask, NULL, NULL, NULL, NULL, cross[0],
                            cross[1], cross[2], cross[3], logits, NULL, NULL, NULL, NULL);
    if ((token = edgec_choose_token(tokenizer, logits, VOCABULARY, n)) == limits->eos) break;
  }
  if (failed) return puts(edgec_last_error(model)), 1;
  if (edgec_detokenize(tokenizer, made, n, text, sizeof text, NULL)) return 1;
  return puts(text), 0;
}
