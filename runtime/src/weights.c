/* Weights of an instance: a mapped file or the caller's memory, and that they are this model's. */
#include "errors.h"
#include "instance.h"

static edgec_status check_model(const edgec_instance *self, const char *file, char *error) {
  const edgec_header *header = self->weights.header;
  if (memcmp(header->payload_hash, self->model->weights_hash, 32) == 0 &&
      header->header_bytes + header->payload_bytes == self->model->weights_bytes) {
    return EDGEC_OK;
  }
  return edgec_explain(error, EDGEC_OTHER_MODEL,
                       "[%s] got weights of \"%s\", edgec %s, with another hash; need those that "
                       "were built with this library, of \"%s\", edgec %s",
                       file, header->model, header->producer, self->model->name,
                       self->model->version);
}

edgec_status edgec_open_weights(edgec_instance *self, const char *path,
                                const edgec_options *options, char *error) {
  const char *file = path ? edgec_shown_path(path) : "options.weights";
  const void *bytes = options->weights;
  uint64_t size = options->weights_size;
  if (!bytes) {
    if (!path) {
      return edgec_explain(error, EDGEC_NULL_ARGUMENT,
                           "[weights] got no path and no memory; need one of them");
    }
    edgec_status status = edgec_file_map(&self->file, path, error);
    if (status) return status;
    bytes = self->file.bytes;
    size = self->file.size;
  }
  /* The header's own hash is checked even without `verify`, so its size fields can be trusted. */
  edgec_status status = edgec_container_open(&self->weights, bytes, size, EDGEC_KIND_WEIGHTS,
                                             options->verify, file, error);
  return status ? status : check_model(self, file, error);
}
