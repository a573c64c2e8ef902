/* Writer of the container format, for outputs; the same bytes as container_writer.py gives. */
#include "outputs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "errors.h"
#include "platform.h"
#include "sha256.h"

/* The header as it grows: entries, then names, in one block. */
typedef struct writing {
  const edgec_model *model;
  const golden_file *golden;
  unsigned char *header; /* edgec_header, entries, names, zeros */
  uint64_t header_bytes, payload_bytes;
  uint32_t n_entries;
} writing;

typedef void visit(writing *self, int32_t call, int32_t output, const edgec_tensor *tensor,
                   const void *data, void *argument);

static void for_each_output(writing *self, visit *function, void *argument) {
  for (int32_t i = 0; i < self->golden->n_calls; i++) {
    const golden_call *call = &self->golden->calls[i];
    const edgec_function *about = &self->model->functions[call->function];
    for (int32_t j = 0; j < about->n_outputs; j++) {
      if (call->outputs[j]) function(self, i, j, &about->outputs[j], call->outputs[j], argument);
    }
  }
}

static uint64_t round_up(uint64_t bytes) {
  return (bytes + EDGEC_ALIGNMENT - 1) / EDGEC_ALIGNMENT * EDGEC_ALIGNMENT;
}

static int print_name(const writing *self, int32_t call, int32_t output, char *name, size_t size) {
  const char *function = self->model->functions[self->golden->calls[call].function].name;
  return snprintf(name, size, "%d/%s/output/%d", call, function, output);
}

static uint64_t data_bytes(const writing *self, int32_t call, int32_t output) {
  const golden_call *about = &self->golden->calls[call];
  const edgec_tensor *tensor = &self->model->functions[about->function].outputs[output];
  return (uint64_t)about->golden[output].count * edgec_dtype_bytes(tensor->dtype);
}

/* First pass: how many entries, and bytes of names. */
static void count(writing *self, int32_t call, int32_t output, const edgec_tensor *tensor,
                  const void *data, void *argument) {
  (void)tensor, (void)data, (void)argument;
  self->n_entries++;
  self->header_bytes += sizeof(edgec_entry) + (uint64_t)print_name(self, call, output, NULL, 0) + 1;
  self->payload_bytes += round_up(data_bytes(self, call, output));
}

typedef struct position {
  uint32_t index;
  uint64_t name, offset;
} position;

/* Second pass: entry and name. */
static void describe(writing *self, int32_t call, int32_t output, const edgec_tensor *tensor,
                     const void *data, void *argument) {
  position *at = argument;
  (void)data;
  edgec_entry entry = {.offset = at->offset,
                       .bytes = data_bytes(self, call, output),
                       .name_offset = (uint32_t)at->name,
                       .dtype = (uint32_t)tensor->dtype,
                       .rank = (uint32_t)tensor->rank};
  int64_t sizes[EDGEC_MAX_RANK];
  golden_sizes(tensor, self->golden->calls[call].dims, sizes);
  for (int32_t axis = 0; axis < tensor->rank; axis++) entry.sizes[axis] = (uint64_t)sizes[axis];
  char *name = (char *)self->header + at->name;
  entry.name_bytes =
      (uint32_t)print_name(self, call, output, name, (size_t)(self->header_bytes - at->name));
  memcpy(self->header + sizeof(edgec_header) + at->index * sizeof entry, &entry, sizeof entry);
  at->index++;
  at->name += entry.name_bytes + 1;
  at->offset += round_up(entry.bytes);
}

static const unsigned char zeros[EDGEC_ALIGNMENT];

/* Third pass: the payload's hash; fourth: the payload. */
static void hash_data(writing *self, int32_t call, int32_t output, const edgec_tensor *tensor,
                      const void *data, void *argument) {
  uint64_t bytes = data_bytes(self, call, output);
  (void)tensor;
  edgec_sha256_add(argument, data, (size_t)bytes);
  edgec_sha256_add(argument, zeros, (size_t)(round_up(bytes) - bytes));
}

static void write_data(writing *self, int32_t call, int32_t output, const edgec_tensor *tensor,
                       const void *data, void *argument) {
  uint64_t bytes = data_bytes(self, call, output);
  (void)tensor;
  fwrite(data, 1, (size_t)bytes, argument); /* a failure stays in ferror */
  fwrite(zeros, 1, (size_t)(round_up(bytes) - bytes), argument);
}

static void finish_header(writing *self) {
  edgec_header header = {.magic = {0x89, 'E', 'D', 'G', 'E', 'C', '\r', '\n'},
                         .format_version = EDGEC_FORMAT_VERSION,
                         .header_bytes = (uint32_t)self->header_bytes,
                         .payload_bytes = self->payload_bytes,
                         .n_entries = self->n_entries,
                         .kind = EDGEC_KIND_CALLS};
  snprintf(header.model, sizeof header.model, "%s", self->model->name);
  snprintf(header.producer, sizeof header.producer, "%s", self->model->version);
  edgec_sha256 hash;
  edgec_sha256_start(&hash);
  for_each_output(self, hash_data, &hash);
  edgec_sha256_end(&hash, header.payload_hash);
  size_t before = offsetof(edgec_header, header_hash), after = before + 32;
  memcpy(self->header, &header, sizeof header);
  edgec_sha256_start(&hash);
  edgec_sha256_add(&hash, self->header, before);
  edgec_sha256_add(&hash, self->header + after, (size_t)self->header_bytes - after);
  edgec_sha256_end(&hash, header.header_hash);
  memcpy(self->header, &header, sizeof header);
}

static edgec_status write_file(writing *self, const char *path, char *error) {
  FILE *file = fopen(path, "wb");
  int failed = !file;
  if (file) {
    fwrite(self->header, 1, (size_t)self->header_bytes, file);
    for_each_output(self, write_data, file);
    failed = ferror(file);
    failed |= fclose(file);
  }
  if (!failed) return EDGEC_OK;
  return edgec_explain(error, EDGEC_CANNOT_OPEN, "[%s] cannot write it: error %d",
                       edgec_shown_path(path), errno);
}

edgec_status outputs_write(const char *path, const edgec_model *model, const golden_file *golden,
                           char *error) {
  writing self = {.model = model, .golden = golden, .header_bytes = sizeof(edgec_header)};
  for_each_output(&self, count, NULL);
  self.header_bytes = round_up(self.header_bytes);
  self.header = calloc(1, (size_t)self.header_bytes);
  if (!self.header) return edgec_explain(error, EDGEC_OUT_OF_MEMORY, "[check] no memory");
  position at = {.name = sizeof(edgec_header) + (uint64_t)self.n_entries * sizeof(edgec_entry)};
  for_each_output(&self, describe, &at);
  finish_header(&self);
  edgec_status status = write_file(&self, path, error);
  free(self.header);
  return status;
}
