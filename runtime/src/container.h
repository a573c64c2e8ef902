/* The file format of weights, golden calls and tokenizers; runtime/README.md has the table.
 *
 * A reader checks every field before anything is used, so that a file from anywhere can be opened.
 * Nothing is copied: entries and names are views of the bytes, which must outlive them.
 */
#ifndef EDGEC_CONTAINER_H
#define EDGEC_CONTAINER_H

#include "edgec/runtime.h"

#define EDGEC_FORMAT_VERSION 1

typedef enum edgec_kind {
  EDGEC_KIND_WEIGHTS = 1,
  EDGEC_KIND_CALLS = 2, /* golden calls, and what a check writes */
  EDGEC_KIND_TOKENS = 3 /* a tokenizer */
} edgec_kind;

/* As they lie in the file. */
typedef struct edgec_header {
  unsigned char magic[8];
  uint32_t format_version, header_bytes;
  uint64_t payload_bytes;
  uint32_t n_entries, kind;
  uint8_t payload_hash[32];
  uint8_t header_hash[32]; /* of the header_bytes first bytes without these */
  char model[64];          /* zeros behind */
  char producer[32];       /* version of edgec */
} edgec_header;

typedef struct edgec_entry {
  uint64_t offset, bytes;           /* in the payload; offset is a multiple of EDGEC_ALIGNMENT */
  uint32_t name_offset, name_bytes; /* in the file; a zero follows */
  uint32_t dtype, rank;
  uint64_t sizes[EDGEC_MAX_RANK]; /* zeros behind */
} edgec_entry;

_Static_assert(sizeof(edgec_header) == 192, "as documented");
_Static_assert(sizeof(edgec_entry) == 96, "as documented");

typedef struct edgec_container {
  const edgec_header *header;
  const edgec_entry *entries; /* header->n_entries of them */
  const unsigned char *payload;
} edgec_container;

/* `bytes` lies at a multiple of EDGEC_ALIGNMENT. With `verify`, the payload is hashed. `file` is
 * its name in error texts. After a failure `self` is all zeros. */
edgec_status edgec_container_open(edgec_container *self, const void *bytes, uint64_t size,
                                  edgec_kind kind, int verify, const char *file, char *error);

const char *edgec_entry_name(const edgec_container *self, const edgec_entry *entry);
const void *edgec_entry_data(const edgec_container *self, const edgec_entry *entry);
const edgec_entry *edgec_entry_find(const edgec_container *self, const char *name);

#endif
