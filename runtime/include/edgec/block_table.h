/* Block tables of sparse attention, for the number of tokens of a call.
 *
 * The generated source describes a pattern in a constant and keeps one table for it in the arena;
 * it builds the table when the number of tokens changes, and hands its arrays to the kernel. The
 * compiler builds the same tables (edgec/kernels/block_table.py) and plans the room for them.
 *
 * Blocks are EDGEC_BLOCK queries by EDGEC_BLOCK keys. Nothing is allocated, there are no globals.
 */
#ifndef EDGEC_BLOCK_TABLE_H
#define EDGEC_BLOCK_TABLE_H

#include "edgec/runtime.h"

#ifdef __cplusplus
extern "C" {
#endif

#define EDGEC_BLOCK 64
#define EDGEC_MAX_RANDOM_PARTS 8 /* in one pattern */

/* One part of a union; `kind` says what a, b and c are. Query i sees key j where
 *   0  block local  |i div a - j div a| <= b
 *   1  window       i - j <= a and j - i <= (b ? 0 : a)
 *   2  strided      (i div b - j div b) mod a = 0
 *   3  dilated      i div a = j div a and i mod b = j mod b = head mod b
 *   4  global       i or j is one of the first a or the last b tokens
 *   5  random       one of a blocks of b keys, drawn with the seed c
 *   6  causal       j <= i
 */
typedef struct edgec_pattern_part {
  int32_t kind, a, b, c;
} edgec_pattern_part;

typedef struct edgec_pattern {
  const edgec_pattern_part *parts;
  int32_t n_parts;
  int32_t causal;  /* 1: of all parts only keys up to the query */
  int32_t period;  /* heads h and h + period see the same */
  int32_t ordered; /* 1: positions of the table are those of `order`; for one part of kind 2 or 3 */
} edgec_pattern;

/* The caller's memory, and what was built. Sizes in elements:
 *   row_ptr           period * blocks of max_length + 1
 *   col_idx, tile_id  max_blocks
 *   bias              max_tiles * EDGEC_BLOCK * EDGEC_BLOCK, at least one tile
 *   hashes            max_tiles; scratch
 *   order             period * max_length; NULL unless the pattern is ordered
 */
typedef struct edgec_block_table {
  int32_t *row_ptr, *col_idx, *tile_id, *order;
  float *bias;
  uint64_t *hashes;
  int32_t max_length, max_blocks, max_tiles;
  int32_t blocks, tiles; /* written */
} edgec_block_table;

/* Build the table for `length` tokens. EDGEC_PATTERN_MISFIT, with a text in `error`
 * (EDGEC_ERROR_BYTES; may be NULL), where it does not fit or a part is of no known kind. */
edgec_status edgec_build_block_table(const edgec_pattern *pattern, int32_t length,
                                     edgec_block_table *table, char *error);

#ifdef __cplusplus
}
#endif
#endif
