/* The container reader on damaged files: test_container WEIGHTS, a small file. Each copy lies in a
 * block of exactly its size, so that the sanitizer sees a read of one byte too many. */
#define _POSIX_C_SOURCE 200809L
#include "container.h"
#include "expect.h"
#include "sha256.h"

typedef struct bytes {
  unsigned char *data;
  size_t size;
} bytes;

static bytes original;

static bytes copy(size_t size) {
  void *block;
  EXPECT(posix_memalign(&block, EDGEC_ALIGNMENT, size) == 0);
  bytes made = {block, size};
  memcpy(made.data, original.data, size < original.size ? size : original.size);
  return made;
}

static edgec_status open_bytes(bytes file, int verify) {
  edgec_container container;
  char error[EDGEC_ERROR_BYTES] = "";
  edgec_status status = edgec_container_open(&container, file.data, file.size, EDGEC_KIND_WEIGHTS,
                                             verify, "file", error);
  EXPECT((status == EDGEC_OK) == (error[0] == 0));
  EXPECT((status == EDGEC_OK) == (container.header != NULL));
  return status;
}

/* Make the header's hash fit again: what somebody would do who forges a file. */
static void forge(bytes file) {
  edgec_header *header = (edgec_header *)(void *)file.data;
  size_t before = offsetof(edgec_header, header_hash), after = before + 32;
  edgec_sha256 hash;
  if (header->header_bytes < after || header->header_bytes > file.size) return;
  edgec_sha256_start(&hash);
  edgec_sha256_add(&hash, file.data, before);
  edgec_sha256_add(&hash, file.data + after, header->header_bytes - after);
  edgec_sha256_end(&hash, header->header_hash);
}

static void reads_the_whole_file(void) {
  edgec_container container;
  bytes file = copy(original.size);
  EXPECT(edgec_container_open(&container, file.data, file.size, EDGEC_KIND_WEIGHTS, 1, "file",
                              NULL) == EDGEC_OK);
  const edgec_entry *scale = edgec_entry_find(&container, "scale");
  EXPECT(scale && scale->dtype == EDGEC_F32 && scale->rank == 1 && scale->sizes[0] == 1);
  EXPECT(!strcmp(edgec_entry_name(&container, scale), "scale"));
  float value;
  memcpy(&value, edgec_entry_data(&container, scale), sizeof value);
  EXPECT(value > 0.4f && value < 0.6f);
  EXPECT(!edgec_entry_find(&container, "nothing"));
  free(file.data);
}

static void refuses_every_truncation(void) {
  for (size_t size = 0; size < original.size; size++) {
    bytes file = copy(size);
    edgec_status status = open_bytes(file, 1);
    EXPECT(status == EDGEC_TRUNCATED);
    EXPECT(open_bytes(file, 0) == EDGEC_TRUNCATED);
    free(file.data);
  }
}

static void refuses_every_flipped_bit(void) {
  bytes file = copy(original.size);
  for (size_t at = 0; at < original.size * 8; at++) {
    file.data[at / 8] ^= (unsigned char)(1 << at % 8);
    edgec_status status = open_bytes(file, 1);
    EXPECT(status == EDGEC_DAMAGED || status == EDGEC_TRUNCATED || status == EDGEC_OTHER_VERSION);
    file.data[at / 8] ^= (unsigned char)(1 << at % 8);
  }
  EXPECT(open_bytes(file, 1) == EDGEC_OK);
  free(file.data);
}

/* Behind a hash that fits, every field of the header and of the table is checked by itself. Texts
 * and hashes may be anything, as may a dtype that has the same size. */
static void survives_every_forged_byte(void) {
  bytes file = copy(original.size);
  const edgec_header *header = (const edgec_header *)(const void *)file.data;
  const size_t header_bytes = header->header_bytes;
  static const unsigned char values[] = {0x00, 0x01, 0x3f, 0x7f, 0x80, 0xff};
  for (size_t at = 8; at < header_bytes; at++) {
    for (size_t v = 0; v < sizeof values; v++) {
      unsigned char before = file.data[at];
      file.data[at] = values[v];
      forge(file);
      open_bytes(file, 0);
      file.data[at] = before;
    }
  }
  free(file.data);
}

typedef void change(edgec_header *header, edgec_entry *entries);

static void expect_forged(edgec_status expected, change *function) {
  bytes file = copy(original.size);
  function((edgec_header *)(void *)file.data,
           (edgec_entry *)(void *)(file.data + sizeof(edgec_header)));
  forge(file);
  EXPECT(open_bytes(file, 0) == expected);
  free(file.data);
}

static void other_version(edgec_header *h, edgec_entry *e) { (void)e, h->format_version = 2; }
static void other_kind(edgec_header *h, edgec_entry *e) { (void)e, h->kind = EDGEC_KIND_CALLS; }
static void many_entries(edgec_header *h, edgec_entry *e) { (void)e, h->n_entries = UINT32_MAX; }
static void no_entry(edgec_header *h, edgec_entry *e) { (void)e, h->n_entries = 0; }
static void huge_payload(edgec_header *h, edgec_entry *e) {
  (void)e, h->payload_bytes = UINT64_MAX - 63;
}
static void large_payload(edgec_header *h, edgec_entry *e) {
  (void)e, h->payload_bytes = (uint64_t)1 << 40;
}
static void odd_payload(edgec_header *h, edgec_entry *e) { (void)e, h->payload_bytes -= 1; }
static void small_header(edgec_header *h, edgec_entry *e) { (void)e, h->header_bytes = 64; }
static void endless_model(edgec_header *h, edgec_entry *e) {
  (void)e;
  memset(h->model, 'x', sizeof h->model);
}
static void hidden_text(edgec_header *h, edgec_entry *e) { (void)e, h->producer[31] = 'x'; }
static void sizes_overflow(edgec_header *h, edgec_entry *e) {
  (void)h;
  e[1].rank = 2;
  e[1].sizes[0] = 3;
  e[1].sizes[1] = 0xaaaaaaaaaaaaaaab; /* 3 times this is 1 modulo 2^64 */
}
static void offset_overflows(edgec_header *h, edgec_entry *e) {
  (void)h, e[1].offset = UINT64_MAX - 63;
}
static void overlaps(edgec_header *h, edgec_entry *e) { (void)h, e[1].offset = 0; }
static void size_under_rank(edgec_header *h, edgec_entry *e) { (void)h, e[0].sizes[7] = 1; }
static void rank_of_nine(edgec_header *h, edgec_entry *e) { (void)h, e[0].rank = 9; }
static void no_dtype(edgec_header *h, edgec_entry *e) { (void)h, e[0].dtype = 10; }
static void more_bytes(edgec_header *h, edgec_entry *e) { (void)h, e[1].bytes += 4; }
static void name_elsewhere(edgec_header *h, edgec_entry *e) { (void)h, e[0].name_offset = 0; }
static void endless_name(edgec_header *h, edgec_entry *e) { (void)h, e[0].name_bytes = UINT32_MAX; }
static void name_without_end(edgec_header *h, edgec_entry *e) { (void)h, e[1].name_bytes -= 1; }
static void empty_name(edgec_header *h, edgec_entry *e) { (void)h, e[0].name_bytes = 0; }

static void refuses_forged_fields(void) {
  expect_forged(EDGEC_OTHER_VERSION, other_version);
  expect_forged(EDGEC_TRUNCATED, large_payload);
  static change *const damages[] = {
      huge_payload,     other_kind,      many_entries,     no_entry,       odd_payload,
      small_header,     endless_model,   hidden_text,      sizes_overflow, overlaps,
      offset_overflows, size_under_rank, rank_of_nine,     no_dtype,       more_bytes,
      name_elsewhere,   endless_name,    name_without_end, empty_name};
  for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
    printf("  %d\n", (int)i);
    fflush(stdout);
    expect_forged(EDGEC_DAMAGED, damages[i]);
  }
}

static void refuses_bytes_behind_the_end(void) {
  bytes file = copy(original.size + 64);
  memset(file.data + original.size, 0, 64);
  EXPECT(open_bytes(file, 0) == EDGEC_DAMAGED);
  free(file.data);
}

static void refuses_payload_that_no_entry_has(void) {
  bytes file = copy(original.size + 64);
  memset(file.data + original.size, 0, 64);
  ((edgec_header *)(void *)file.data)->payload_bytes += 64;
  forge(file);
  EXPECT(open_bytes(file, 0) == EDGEC_DAMAGED);
  free(file.data);
}

static void refuses_memory_at_odd_places(void) {
  bytes file = copy(original.size + 64);
  memmove(file.data + 8, file.data, original.size);
  bytes moved = {file.data + 8, original.size};
  EXPECT(open_bytes(moved, 1) == EDGEC_MISALIGNED);
  free(file.data);
}

int main(int count, char **words) {
  EXPECT(count == 2);
  FILE *file = fopen(words[1], "rb");
  EXPECT(file);
  static unsigned char buffer[1 << 16];
  original.size = fread(buffer, 1, sizeof buffer, file);
  original.data = buffer;
  fclose(file);
  EXPECT(original.size > 0 && original.size < sizeof buffer);
  RUN(reads_the_whole_file);
  RUN(refuses_every_truncation);
  RUN(refuses_every_flipped_bit);
  RUN(survives_every_forged_byte);
  RUN(refuses_forged_fields);
  RUN(refuses_bytes_behind_the_end);
  RUN(refuses_payload_that_no_entry_has);
  RUN(refuses_memory_at_odd_places);
  return 0;
}
