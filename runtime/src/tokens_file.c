/* NAME.tokens: its entries, each checked before it is used. What lies in a file that somebody made
 * up may name wrong tokens, never memory that is not the file's. */
#include "errors.h"
#include "platform.h"
#include "tokens.h"

typedef struct reading {
  edgec_tokenizer *self;
  const char *file;
  char *error;
  edgec_status status; /* of the first failure; later steps do nothing */
} reading;

static void refuse(reading *r, const char *entry, const char *what) {
  if (r->status) return;
  r->status = edgec_explain(r->error, EDGEC_DAMAGED,
                            "[%s] got entry %s%s; need the file as edgec wrote it; copy it again",
                            r->file, entry, what);
}

/* Data of an entry of one axis; NULL where it is missing or of another type. */
static const void *entry(reading *r, const char *name, edgec_dtype dtype, int32_t *count) {
  const edgec_entry *found = edgec_entry_find(&r->self->container, name);
  *count = 0;
  if (!found) {
    refuse(r, name, ", which is missing");
  } else if (found->dtype != (uint32_t)dtype || found->rank != 1 ||
             found->sizes[0] > INT32_MAX / 2) {
    refuse(r, name, " of another type or size");
  } else {
    *count = (int32_t)found->sizes[0];
    return edgec_entry_data(&r->self->container, found);
  }
  return NULL;
}

/* The same with as many elements as expected. */
static const void *exactly(reading *r, const char *name, edgec_dtype dtype, int32_t expected) {
  int32_t count;
  const void *data = entry(r, name, dtype, &count);
  if (data && count != expected) {
    refuse(r, name, " of another size");
    return NULL;
  }
  return data;
}

static void check_range(reading *r, const char *name, const int32_t *values, int32_t count,
                        int32_t end) {
  for (int32_t i = 0; !r->status && i < count; i++) {
    if (values[i] < -1 || values[i] >= end) refuse(r, name, " with a value out of range");
  }
}

static void read_texts(reading *r) {
  edgec_texts *texts = &r->self->texts;
  int32_t bytes, count;
  texts->bytes = entry(r, "texts", EDGEC_U8, &bytes);
  texts->starts = entry(r, "starts", EDGEC_I32, &count);
  if (r->status) return;
  if (count < 1 || texts->starts[0] != 0 || texts->starts[count - 1] != bytes) {
    refuse(r, "starts", " that does not span the texts");
  }
  for (int32_t i = 1; !r->status && i < count; i++) {
    if (texts->starts[i] < texts->starts[i - 1]) refuse(r, "starts", " out of order");
  }
  texts->count = count - 1;
}

static void read_ids(reading *r) {
  edgec_tokenizer *self = r->self;
  self->ids = exactly(r, "ids", EDGEC_I32, self->texts.count);
  self->of_id = entry(r, "of_id", EDGEC_I32, &self->n_ids);
  if (r->status) return;
  check_range(r, "ids", self->ids, self->texts.count, self->n_ids);
  check_range(r, "of_id", self->of_id, self->n_ids, self->texts.count);
}

/* The entry `name` of the piece model `side`. */
static const char *of_side(char *buffer, const char *side, const char *name) {
  size_t length = strlen(side);
  memcpy(buffer, side, length);
  buffer[length] = '/';
  memcpy(buffer + length + 1, name, strlen(name) + 1);
  return buffer;
}

/* What only splitting a text asks for: there is none of it for the target. */
static void read_splitting(reading *r, edgec_pieces *pieces) {
  const char *replaced = "source/replacements";
  pieces->scores = exactly(r, "source/scores", EDGEC_F32, r->self->texts.count);
  pieces->penalty = exactly(r, "source/penalty", EDGEC_F32, 1);
  pieces->rules = entry(r, "source/rules", EDGEC_I32, &pieces->n_rules);
  pieces->replacements = entry(r, replaced, EDGEC_U8, &pieces->replacement_bytes);
  int32_t last = pieces->replacement_bytes - 1;
  if (!r->status && last >= 0 && pieces->replacements[last]) refuse(r, replaced, " without end");
}

static void read_pieces(reading *r, const char *side, edgec_pieces *pieces) {
  char name[32];
  int32_t texts = r->self->texts.count;
  const int32_t *flags = exactly(r, of_side(name, side, "flags"), EDGEC_I32, 1);
  pieces->flags = flags ? (uint32_t)flags[0] : 0;
  pieces->unknown = entry(r, of_side(name, side, "unknown"), EDGEC_U8, &pieces->unknown_bytes);
  pieces->kinds = exactly(r, of_side(name, side, "kinds"), EDGEC_U8, texts);
  for (int32_t i = 0; !r->status && i < texts; i++) {
    if (pieces->kinds[i] > EDGEC_BYTE) refuse(r, name, " with a value out of range");
  }
}

static void read_generation(reading *r) {
  edgec_tokenizer *self = r->self;
  const int32_t *values = exactly(r, "generation", EDGEC_I32, 8);
  self->banned = entry(r, "banned", EDGEC_I32, &self->n_banned);
  if (r->status) return;
  check_range(r, "generation", values, 2, self->n_ids);
  check_range(r, "generation", values + 2, 6, INT32_MAX);
  if (values[0] < 0 || values[1] < 0) refuse(r, "generation", " without unknown token or end");
  self->unknown = values[0];
  self->end = values[1];
  edgec_generation made = {values[2], values[3], values[4], values[5], values[6], values[7]};
  self->generation = made;
}

edgec_status edgec_read_tokens(edgec_tokenizer *self, const char *file, char *error) {
  reading r = {self, file, error, EDGEC_OK};
  read_texts(&r);
  if (!r.status) read_ids(&r);
  if (!r.status) read_pieces(&r, "source", &self->source);
  if (!r.status) read_splitting(&r, &self->source);
  self->target = self->source;
  if (!r.status && edgec_entry_find(&self->container, "target/kinds")) {
    read_pieces(&r, "target", &self->target);
  }
  if (!r.status) read_generation(&r);
  return r.status;
}
