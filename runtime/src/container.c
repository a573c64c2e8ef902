/* Reader of the container format: every field is checked before it is used. */
#include "container.h"

#include "errors.h"
#include "platform.h"
#include "sha256.h"

static const unsigned char magic[8] = {0x89, 'E', 'D', 'G', 'E', 'C', '\r', '\n'};

/* What the checks of one file share. */
typedef struct opening {
  const unsigned char *bytes;
  uint64_t size;
  const edgec_header *header;
  const char *file;
  char *error;
} opening;

static uint64_t round_up(uint64_t bytes) {
  return (bytes + EDGEC_ALIGNMENT - 1) & ~(uint64_t)(EDGEC_ALIGNMENT - 1);
}

static edgec_status damaged(const opening *self, const char *what) {
  return edgec_explain(self->error, EDGEC_DAMAGED,
                       "[%s] got %s; need the file as edgec wrote it; copy it again", self->file,
                       what);
}

static edgec_status truncated(const opening *self, uint64_t need_bytes) {
  return edgec_explain(self->error, EDGEC_TRUNCATED,
                       "[%s] got %llu bytes; need %llu; copy the whole file again", self->file,
                       (unsigned long long)self->size, (unsigned long long)need_bytes);
}

/* A text in a field of fixed size: something may be there, zeros must be behind. */
static int is_padded_text(const char *field, size_t size) {
  size_t length = 0;
  while (length < size && field[length]) length++;
  if (length == size) return 0;
  for (size_t i = length; i < size; i++) {
    if (field[i]) return 0;
  }
  return 1;
}

static edgec_status check_sizes(const opening *self) {
  const edgec_header *header = self->header;
  uint64_t least = sizeof(edgec_header) + (uint64_t)header->n_entries * sizeof(edgec_entry);
  if (header->header_bytes % EDGEC_ALIGNMENT || header->header_bytes < least) {
    return damaged(self, "a header of impossible size");
  }
  if (header->payload_bytes % EDGEC_ALIGNMENT ||
      header->payload_bytes > UINT64_MAX - header->header_bytes) {
    return damaged(self, "a payload of impossible size");
  }
  uint64_t need_bytes = header->header_bytes + header->payload_bytes;
  if (self->size < need_bytes) return truncated(self, need_bytes);
  if (self->size > need_bytes) return damaged(self, "bytes behind the end");
  return EDGEC_OK;
}

static edgec_status check_header_hash(const opening *self) {
  const edgec_header *header = self->header;
  size_t before = offsetof(edgec_header, header_hash);
  size_t after = before + sizeof header->header_hash;
  uint8_t digest[32];
  edgec_sha256 hash;
  edgec_sha256_start(&hash);
  edgec_sha256_add(&hash, self->bytes, before);
  edgec_sha256_add(&hash, self->bytes + after, header->header_bytes - after);
  edgec_sha256_end(&hash, digest);
  return memcmp(digest, header->header_hash, 32) ? damaged(self, "a header with another hash")
                                                 : EDGEC_OK;
}

static edgec_status check_header(const opening *self, edgec_kind kind) {
  if (self->size < sizeof(edgec_header)) {
    int is_start = memcmp(self->bytes, magic, self->size < 8 ? (size_t)self->size : 8) == 0;
    return is_start ? truncated(self, sizeof(edgec_header)) : damaged(self, "another magic number");
  }
  const edgec_header *header = self->header;
  if (memcmp(header->magic, magic, 8)) return damaged(self, "another magic number");
  if (header->format_version != EDGEC_FORMAT_VERSION) {
    return edgec_explain(self->error, EDGEC_OTHER_VERSION,
                         "[%s] got format %u; need %d; use files and library of one edgec",
                         self->file, header->format_version, EDGEC_FORMAT_VERSION);
  }
  edgec_status status = check_sizes(self);
  if (status == EDGEC_OK) status = check_header_hash(self);
  if (status) return status;
  if (header->kind != (uint32_t)kind) return damaged(self, "a file of another kind");
  if (!is_padded_text(header->model, sizeof header->model) ||
      !is_padded_text(header->producer, sizeof header->producer)) {
    return damaged(self, "a header with a bad text");
  }
  return EDGEC_OK;
}

/* Bytes of the entry's elements, or UINT64_MAX where dtype, rank or sizes are none. */
static uint64_t element_bytes(const edgec_entry *entry) {
  uint64_t bytes = edgec_dtype_bytes((edgec_dtype)entry->dtype);
  if (bytes == 0 || entry->rank > EDGEC_MAX_RANK) return UINT64_MAX;
  for (uint32_t axis = 0; axis < EDGEC_MAX_RANK; axis++) {
    uint64_t size = entry->sizes[axis];
    if (axis >= entry->rank) {
      if (size) return UINT64_MAX;
    } else if (size && bytes > (UINT64_MAX - 1) / size) {
      return UINT64_MAX;
    } else {
      bytes *= size;
    }
  }
  return bytes;
}

/* Names follow the table one after another, each with a zero at its end. */
static int is_name(const opening *self, const edgec_entry *entry, uint64_t expected_offset) {
  if (entry->name_offset != expected_offset || entry->name_bytes == 0) return 0;
  uint64_t end = expected_offset + entry->name_bytes;
  if (end >= self->header->header_bytes || self->bytes[end]) return 0;
  for (uint64_t i = expected_offset; i < end; i++) {
    if (self->bytes[i] == 0) return 0;
  }
  return 1;
}

static int all_zero(const unsigned char *from, const unsigned char *end) {
  for (; from < end; from++) {
    if (*from) return 0;
  }
  return 1;
}

/* Entries lie one after another in the order of the table, each at the next multiple of 64. */
static edgec_status check_entries(const opening *self, const edgec_entry *entries) {
  const edgec_header *header = self->header;
  uint64_t offset = 0;
  uint64_t name = sizeof(edgec_header) + (uint64_t)header->n_entries * sizeof(edgec_entry);
  for (uint32_t i = 0; i < header->n_entries; i++) {
    const edgec_entry *entry = &entries[i];
    if (!is_name(self, entry, name)) return damaged(self, "an entry with a bad name");
    name += (uint64_t)entry->name_bytes + 1;
    uint64_t bytes = element_bytes(entry);
    if (bytes == UINT64_MAX || bytes != entry->bytes || entry->offset != offset ||
        bytes > header->payload_bytes - offset) {
      return damaged(self, "an entry of impossible type, size or place");
    }
    offset = round_up(offset + bytes); /* at most payload_bytes, which is such a multiple */
  }
  if (offset != header->payload_bytes) return damaged(self, "a payload without entries");
  if (round_up(name) != header->header_bytes ||
      !all_zero(self->bytes + name, self->bytes + header->header_bytes)) {
    return damaged(self, "a header with bytes behind its names");
  }
  return EDGEC_OK;
}

static edgec_status check_payload_hash(const opening *self) {
  uint8_t digest[32];
  edgec_sha256 hash;
  edgec_sha256_start(&hash);
  edgec_sha256_add(&hash, self->bytes + self->header->header_bytes,
                   (size_t)self->header->payload_bytes);
  edgec_sha256_end(&hash, digest);
  return memcmp(digest, self->header->payload_hash, 32)
             ? damaged(self, "a payload with another hash than the header says")
             : EDGEC_OK;
}

edgec_status edgec_container_open(edgec_container *self, const void *bytes, uint64_t size,
                                  edgec_kind kind, int verify, const char *file, char *error) {
  opening file_opening = {bytes, size, bytes, file, error};
  memset(self, 0, sizeof *self);
  if ((uintptr_t)bytes % EDGEC_ALIGNMENT) {
    return edgec_explain(error, EDGEC_MISALIGNED, "[%s] got memory at an odd place; need %d bytes",
                         file, EDGEC_ALIGNMENT);
  }
  edgec_status status = check_header(&file_opening, kind);
  if (status) return status;
  const edgec_entry *entries =
      (const edgec_entry *)(const void *)((const unsigned char *)bytes + sizeof(edgec_header));
  status = check_entries(&file_opening, entries);
  if (status == EDGEC_OK && verify) status = check_payload_hash(&file_opening);
  if (status) return status;
  self->header = bytes;
  self->entries = entries;
  self->payload = (const unsigned char *)bytes + self->header->header_bytes;
  return EDGEC_OK;
}

const char *edgec_entry_name(const edgec_container *self, const edgec_entry *entry) {
  return (const char *)self->header + entry->name_offset;
}

const void *edgec_entry_data(const edgec_container *self, const edgec_entry *entry) {
  return self->payload + entry->offset;
}

const edgec_entry *edgec_entry_find(const edgec_container *self, const char *name) {
  for (uint32_t i = 0; i < self->header->n_entries; i++) {
    if (strcmp(edgec_entry_name(self, &self->entries[i]), name) == 0) return &self->entries[i];
  }
  return NULL;
}
