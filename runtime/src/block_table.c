/* Block tables: edgec/block_table.h. The meaning of parts is that of edgec/patterns. */
#include "edgec/block_table.h"

#include "errors.h"
#include "platform.h"

enum { BLOCK_LOCAL, WINDOW, STRIDED, DILATED, GLOBAL, RANDOM, CAUSAL, KINDS };
enum { NONE = -1, SOME = 0, EVERY = 1 };

#define HIDDEN (-3e38f) /* as the kernels have it */

/* ---------------------------------------------------------------- random blocks */
/* edgec/patterns/choice.py: the key blocks with the least ranks are seen. */
#define P 32717u

static uint32_t mixed(uint32_t x) {
  for (int round = 0; round < 2; round++) {
    x %= P;
    x = (x * x % P * x % P * 12377u + 7919u) % P;
  }
  return x;
}

/* The rows of a random part that one block of queries touches. */
typedef struct draw {
  int64_t first_row;
  uint32_t start[EDGEC_BLOCK + 1];
  int64_t limit[EDGEC_BLOCK + 1]; /* greatest rank and column that are chosen */
} draw;

static int64_t rank_of(const draw *self, int64_t row, int64_t column) {
  uint32_t rank = mixed(mixed(self->start[row - self->first_row]) + (uint32_t)(column % P));
  return (int64_t)rank << 32 | column;
}

static int chosen(const draw *self, int64_t row, int64_t column) {
  return rank_of(self, row, column) <= self->limit[row - self->first_row];
}

static void draw_rows(draw *self, const edgec_pattern_part *part, int64_t first, int64_t last,
                      int64_t blocks) {
  uint32_t seed = mixed(mixed((uint32_t)part->c / P) + (uint32_t)part->c % P);
  self->first_row = first;
  for (int64_t row = first; row <= last; row++) {
    int64_t limit = -1;
    self->start[row - first] = seed + (uint32_t)(row % P);
    if (part->a >= blocks) {
      limit = INT64_MAX;
    } else {
      for (int32_t k = 0; k < part->a; k++) { /* the next rank above the limit */
        int64_t next = INT64_MAX;
        for (int64_t column = 0; column < blocks; column++) {
          int64_t rank = rank_of(self, row, column);
          if (rank > limit && rank < next) next = rank;
        }
        limit = next;
      }
    }
    self->limit[row - first] = limit;
  }
}

/* ---------------------------------------------------------------- one pair, one block */
typedef struct builder {
  const edgec_pattern *pattern;
  edgec_block_table *table;
  int64_t length, blocks;
  int32_t head;
  const int32_t *order; /* of this head, or NULL */
  draw draws[EDGEC_MAX_RANDOM_PARTS];
} builder;

/* Tokens of one side of a block: least and greatest, and in an ordered strided pattern the same
 * of their residues. */
typedef struct range {
  int64_t low, high, first_class, last_class;
} range;

static int64_t token(const builder *self, int64_t position) {
  return self->order && position < self->length ? self->order[position] : position;
}

static int64_t distance(int64_t a, int64_t b) { return a < b ? b - a : a - b; }

static int sees(const builder *self, const edgec_pattern_part *part, const draw *drawn, int64_t i,
                int64_t j) {
  int64_t a = part->a, b = part->b, end = b ? self->length - b : INT64_MAX;
  switch (part->kind) {
    case BLOCK_LOCAL:
      return distance(i / a, j / a) <= b;
    case WINDOW:
      return i - j <= a && j - i <= (b ? 0 : a);
    case STRIDED:
      return (i / b - j / b) % a == 0;
    case DILATED:
      return i / a == j / a && i % b == self->head % b && j % b == self->head % b;
    case GLOBAL:
      return i < a || j < a || i >= end || j >= end;
    case RANDOM:
      if (i >= self->length) i = self->length - 1;
      if (j >= self->length) j = self->length - 1;
      return chosen(drawn, i / b, j / b);
    default:
      return j <= i;
  }
}

static int within(int64_t low, int64_t high, int64_t least, int64_t most) {
  if (low >= least && high <= most) return EVERY;
  return high < least || low > most ? NONE : SOME;
}

static int random_in(const draw *drawn, int64_t a0, int64_t a1, int64_t b0, int64_t b1) {
  int64_t found = 0;
  for (int64_t a = a0; a <= a1; a++) {
    for (int64_t b = b0; b <= b1; b++) found += chosen(drawn, a, b);
  }
  if (found == 0) return NONE;
  return found == (a1 - a0 + 1) * (b1 - b0 + 1) ? EVERY : SOME;
}

/* What the ranges of queries and keys say of a part. */
static int classify(const builder *self, const edgec_pattern_part *part, const draw *drawn,
                    const range *q, const range *k) {
  int64_t a = part->a, b = part->b, end = self->length - b;
  int64_t i0 = q->low, i1 = q->high, j0 = k->low, j1 = k->high;
  switch (part->kind) {
    case BLOCK_LOCAL:
      return within(i0 / a - j1 / a, i1 / a - j0 / a, -b, b);
    case WINDOW:
      return within(i0 - j1, i1 - j0, b ? 0 : -a, a);
    case STRIDED:
      if (self->order) {
        if (q->first_class > k->last_class || q->last_class < k->first_class) return NONE;
        return q->first_class == q->last_class && k->first_class == k->last_class ? EVERY : SOME;
      }
      if (i0 / b != i1 / b || j0 / b != j1 / b) return SOME;
      return (i0 / b - j0 / b) % a == 0 ? EVERY : NONE;
    case DILATED:
      if (i0 / a > j1 / a || i1 / a < j0 / a) return NONE;
      return b == 1 && i0 / a == i1 / a && j0 / a == j1 / a ? EVERY : SOME;
    case GLOBAL:
      if (i1 < a || j1 < a || i0 >= end || j0 >= end) return EVERY;
      return i0 >= a && j0 >= a && i1 < end && j1 < end ? NONE : SOME;
    case RANDOM:
      return random_in(drawn, i0 / b, i1 / b, j0 / b, j1 / b);
    default:
      return within(i0 - j1, i1 - j0, 0, self->length);
  }
}

static range range_of(const builder *self, int64_t block) {
  int64_t first = block * EDGEC_BLOCK, last = first + EDGEC_BLOCK - 1;
  if (last >= self->length) last = self->length - 1;
  range found = {first, last, 0, 0};
  if (self->order) {
    const edgec_pattern_part *part = self->pattern->parts;
    found.low = found.high = self->order[first];
    for (int64_t p = first; p <= last; p++) {
      if (self->order[p] < found.low) found.low = self->order[p];
      if (self->order[p] > found.high) found.high = self->order[p];
    }
    if (part->kind == STRIDED) {
      found.first_class = self->order[first] / part->b % part->a;
      found.last_class = self->order[last] / part->b % part->a;
    }
  }
  return found;
}

/* The pairs of a block, a bit for each key; whether none, some or all that exist are seen. */
static int look(const builder *self, int64_t row, int64_t column, uint64_t *bits) {
  int64_t queries = self->length - row * EDGEC_BLOCK, keys = self->length - column * EDGEC_BLOCK;
  uint64_t exist = keys >= EDGEC_BLOCK ? ~UINT64_C(0) : (UINT64_C(1) << keys) - 1;
  int any = 0, all = 1;
  for (int y = 0; y < EDGEC_BLOCK; y++) {
    int64_t i = token(self, row * EDGEC_BLOCK + y);
    uint64_t seen = 0;
    for (int x = 0; x < EDGEC_BLOCK; x++) {
      int64_t j = token(self, column * EDGEC_BLOCK + x);
      if (self->pattern->causal && j > i) continue;
      const draw *drawn = self->draws;
      for (int32_t k = 0; k < self->pattern->n_parts; k++) {
        const edgec_pattern_part *part = &self->pattern->parts[k];
        if (sees(self, part, drawn, i, j)) {
          seen |= UINT64_C(1) << x;
          break;
        }
        drawn += part->kind == RANDOM;
      }
    }
    bits[y] = seen;
    if (y < queries) {
      any |= (seen & exist) != 0;
      all &= (seen & exist) == exist;
    }
  }
  if (!any) return NONE;
  return all ? EVERY : SOME;
}

/* ---------------------------------------------------------------- tiles and rows */
static int same_tile(const float *tile, const uint64_t *bits) {
  for (int y = 0; y < EDGEC_BLOCK; y++) {
    for (int x = 0; x < EDGEC_BLOCK; x++) {
      if ((tile[x * EDGEC_BLOCK + y] == 0.0f) != (int)(bits[y] >> x & 1)) return 0;
    }
  }
  return 1;
}

/* Number of the tile with these bits, which is added where it is new; -1 where there is no room. */
static int32_t tile_of(edgec_block_table *table, const uint64_t *bits) {
  const size_t floats = EDGEC_BLOCK * EDGEC_BLOCK;
  uint64_t hash = UINT64_C(14695981039346656037); /* FNV-1a, a word at a time */
  for (int y = 0; y < EDGEC_BLOCK; y++) {
    hash = (hash ^ bits[y]) * UINT64_C(1099511628211);
    hash ^= hash >> 29;
  }
  for (int32_t t = 0; t < table->tiles; t++) {
    if (table->hashes[t] == hash && same_tile(table->bias + (size_t)t * floats, bits)) return t;
  }
  if (table->tiles >= table->max_tiles) return -1;
  float *tile = table->bias + (size_t)table->tiles * floats;
  for (int y = 0; y < EDGEC_BLOCK; y++) {
    for (int x = 0; x < EDGEC_BLOCK; x++) {
      tile[x * EDGEC_BLOCK + y] = bits[y] >> x & 1 ? 0.0f : HIDDEN;
    }
  }
  table->hashes[table->tiles] = hash;
  return table->tiles++;
}

static int classify_all(const builder *self, const range *q, const range *k) {
  int known = NONE;
  const draw *drawn = self->draws;
  for (int32_t p = 0; p < self->pattern->n_parts && known < EVERY; p++) {
    const edgec_pattern_part *part = &self->pattern->parts[p];
    int of_part = classify(self, part, drawn, q, k);
    if (of_part > known) known = of_part;
    drawn += part->kind == RANDOM;
  }
  if (self->pattern->causal) {
    int past = within(q->low - k->high, q->high - k->low, 0, self->length);
    if (past < known) known = past;
  }
  return known;
}

/* All visited blocks of one block of queries. */
static edgec_status build_row(builder *self, int64_t row, char *error) {
  edgec_block_table *table = self->table;
  range queries = range_of(self, row);
  draw *drawn = self->draws;
  for (int32_t p = 0; p < self->pattern->n_parts; p++) {
    const edgec_pattern_part *part = &self->pattern->parts[p];
    if (part->kind != RANDOM) continue;
    draw_rows(drawn++, part, queries.low / part->b, queries.high / part->b,
              (self->length + part->b - 1) / part->b);
  }
  for (int64_t column = 0; column < self->blocks; column++) {
    uint64_t bits[EDGEC_BLOCK];
    range keys = range_of(self, column);
    int known = classify_all(self, &queries, &keys);
    int32_t tile = -1;
    if (known == SOME) known = look(self, row, column, bits);
    if (known == NONE) continue;
    if (table->blocks >= table->max_blocks) {
      return edgec_explain(error, EDGEC_PATTERN_MISFIT,
                           "[pattern] more than %d blocks for %d tokens; need a pattern that fits",
                           (int)table->max_blocks, (int)self->length);
    }
    if (known == SOME && (tile = tile_of(table, bits)) < 0) {
      return edgec_explain(error, EDGEC_PATTERN_MISFIT,
                           "[pattern] more than %d tiles for %d tokens; need a pattern that fits",
                           (int)table->max_tiles, (int)self->length);
    }
    table->col_idx[table->blocks] = (int32_t)column;
    table->tile_id[table->blocks++] = tile;
  }
  return EDGEC_OK;
}

/* Tokens of the head's rate first, or by residue of their block. */
static void write_order(const builder *self, int32_t *order) {
  const edgec_pattern_part *part = self->pattern->parts;
  int64_t at = 0, classes = part->kind == DILATED ? 2 : part->a;
  /* of more classes than blocks most are empty */
  int64_t filled = (self->length + part->b - 1) / part->b;
  if (part->kind == STRIDED && classes > filled) classes = filled;
  for (int64_t class = 0; class < classes; class++) {
    if (part->kind == DILATED) {
      for (int64_t i = 0; i < self->length; i++) {
        if ((i % part->b != self->head % part->b) == class) order[at++] = (int32_t)i;
      }
      continue;
    }
    for (int64_t start = class * part->b; start < self->length;
         start += (int64_t)part->a * part->b) {
      for (int64_t i = start; i < start + part->b && i < self->length; i++)
        order[at++] = (int32_t)i;
    }
  }
}

static edgec_status check(const edgec_pattern *pattern, int32_t length,
                          const edgec_block_table *table, char *error) {
  int32_t draws = 0;
  if (length < 0 || length > table->max_length) {
    return edgec_explain(error, EDGEC_PATTERN_MISFIT, "[pattern] %d tokens; need 0..%d",
                         (int)length, (int)table->max_length);
  }
  for (int32_t p = 0; p < pattern->n_parts; p++) {
    const edgec_pattern_part *part = &pattern->parts[p];
    int divides_a = part->kind == BLOCK_LOCAL || part->kind == STRIDED || part->kind == DILATED;
    int divides_b = part->kind == STRIDED || part->kind == DILATED || part->kind == RANDOM;
    draws += part->kind == RANDOM;
    if (part->kind < 0 || part->kind >= KINDS || part->a < divides_a || part->b < divides_b ||
        part->c < 0 || draws > EDGEC_MAX_RANDOM_PARTS) {
      return edgec_explain(
          error, EDGEC_PATTERN_MISFIT,
          "[pattern] part %d is (%d, %d, %d, %d); need a kind 0..%d and its fields", (int)p,
          (int)part->kind, (int)part->a, (int)part->b, (int)part->c, KINDS - 1);
    }
  }
  int one = pattern->n_parts == 1 && table->order &&
            (pattern->parts->kind == STRIDED || pattern->parts->kind == DILATED);
  if (pattern->n_parts < 1 || pattern->period < 1 || (pattern->ordered && !one)) {
    return edgec_explain(error, EDGEC_PATTERN_MISFIT,
                         "[pattern] %d parts, period %d; need parts, and one that can be ordered",
                         (int)pattern->n_parts, (int)pattern->period);
  }
  return EDGEC_OK;
}

edgec_status edgec_build_block_table(const edgec_pattern *pattern, int32_t length,
                                     edgec_block_table *table, char *error) {
  edgec_status status = check(pattern, length, table, error);
  builder self;
  if (status != EDGEC_OK) return status;
  self.pattern = pattern;
  self.table = table;
  self.length = length;
  self.blocks = ((int64_t)length + EDGEC_BLOCK - 1) / EDGEC_BLOCK;
  table->blocks = table->tiles = 0;
  table->row_ptr[0] = 0;
  for (int32_t head = 0; head < pattern->period; head++) {
    self.head = head;
    self.order = NULL;
    if (pattern->ordered) {
      int32_t *order = table->order + (int64_t)head * length;
      write_order(&self, order);
      self.order = order;
    }
    for (int64_t row = 0; row < self.blocks; row++) {
      status = build_row(&self, row, error);
      if (status != EDGEC_OK) return status;
      table->row_ptr[head * self.blocks + row + 1] = table->blocks;
    }
  }
  return EDGEC_OK;
}
