/* What libFuzzer calls with made-up files: the container reader, and all that it then allows.
 *
 * Each input is read twice: as it is, and with a header hash that fits, since no fuzzer finds one.
 * The bytes lie in a block of exactly their size, so that the sanitizer sees one byte too many. */
#define _POSIX_C_SOURCE 200809L
#include "container.h"
#include "expect.h"
#include "sha256.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void make_hash_fit(unsigned char *bytes, size_t size) {
  edgec_header *header = (edgec_header *)(void *)bytes;
  size_t before = offsetof(edgec_header, header_hash), after = before + 32;
  edgec_sha256 hash;
  if (size < sizeof *header || header->header_bytes < after || header->header_bytes > size) return;
  edgec_sha256_start(&hash);
  edgec_sha256_add(&hash, bytes, before);
  edgec_sha256_add(&hash, bytes + after, header->header_bytes - after);
  edgec_sha256_end(&hash, header->header_hash);
}

/* Everything that the reader gives out lies in the file; the sum of all that, so that it is read.
 */
static unsigned char use(const edgec_container *container) {
  unsigned char sum = 0;
  EXPECT(strlen(container->header->model) < 64 && strlen(container->header->producer) < 32);
  for (uint32_t i = 0; i < container->header->n_entries; i++) {
    const edgec_entry *entry = &container->entries[i];
    const char *name = edgec_entry_name(container, entry);
    const unsigned char *bytes = edgec_entry_data(container, entry);
    EXPECT(strlen(name) == entry->name_bytes && entry->rank <= EDGEC_MAX_RANK);
    EXPECT((uintptr_t)bytes % EDGEC_ALIGNMENT == 0);
    EXPECT(edgec_entry_find(container, name));
    for (uint64_t at = 0; at < entry->bytes; at++) sum ^= bytes[at];
  }
  return sum;
}

static void open_and_use(const unsigned char *bytes, size_t size, edgec_kind kind, int verify) {
  edgec_container container;
  char error[EDGEC_ERROR_BYTES] = "";
  edgec_status status = edgec_container_open(&container, bytes, size, kind, verify, "file", error);
  EXPECT((status == EDGEC_OK) == (strlen(error) == 0));
  static volatile unsigned char sum;
  if (status == EDGEC_OK) sum = (unsigned char)(sum ^ use(&container));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  void *block;
  EXPECT(posix_memalign(&block, EDGEC_ALIGNMENT, size) == 0);
  if (size) memcpy(block, data, size);
  open_and_use(block, size, EDGEC_KIND_WEIGHTS, 1);
  make_hash_fit(block, size);
  open_and_use(block, size, EDGEC_KIND_WEIGHTS, 0);
  open_and_use(block, size, EDGEC_KIND_CALLS, 0);
  free(block);
  return 0;
}
