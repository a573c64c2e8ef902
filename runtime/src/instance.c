/* Creation and end of instances: all memory and threads come here and nowhere else. */
#include "instance.h"

#include "errors.h"

static const edgec_options defaults = EDGEC_DEFAULTS;

static edgec_status check_flag(const char *name, int32_t value, char *error) {
  if (value == 0 || value == 1) return EDGEC_OK;
  return edgec_explain(error, EDGEC_BAD_OPTION, "[%s] got %d; need 0 or 1", name, value);
}

static edgec_status check_options(const edgec_options *options, char *error) {
  if (options->threads < 0 || options->threads > EDGEC_MAX_THREADS) {
    return edgec_explain(error, EDGEC_BAD_OPTION, "[threads] got %d; need 0 <= threads <= %d",
                         options->threads, EDGEC_MAX_THREADS);
  }
  edgec_status status = check_flag("verify", options->verify, error);
  return status ? status : check_flag("profile", options->profile, error);
}

static edgec_status no_memory(const char *what, uint64_t bytes, char *error) {
  return edgec_explain(error, EDGEC_OUT_OF_MEMORY, "[%s] no memory; need %llu bytes", what,
                       (unsigned long long)bytes);
}

static edgec_status reserve_arena(edgec_instance *self, char *error) {
  uint64_t bytes = self->model->arena_bytes;
  self->arena = edgec_reserve(bytes);
  return self->arena ? EDGEC_OK : no_memory("arena", bytes, error);
}

static edgec_status reserve_profile(edgec_instance *self, char *error) {
  uint64_t bytes = (uint64_t)self->model->n_kernels * sizeof(edgec_profile);
  self->profile = edgec_reserve(bytes);
  return self->profile ? EDGEC_OK : no_memory("profile", bytes, error);
}

/* Workspaces lie one after another, each at a multiple of EDGEC_ALIGNMENT. */
static edgec_status start_threads(edgec_instance *self, char *error) {
  const uint64_t mask = EDGEC_ALIGNMENT - 1;
  uint64_t bytes = self->model->workspace_bytes;
  if (bytes > SIZE_MAX / (2 * EDGEC_MAX_THREADS)) return no_memory("workspace", bytes, error);
  uint64_t stride = (bytes + mask) & ~mask;
  self->workspaces = edgec_reserve(stride * (uint64_t)self->threads);
  if (!self->workspaces) {
    return no_memory("workspaces", stride * (uint64_t)self->threads, error);
  }
  return edgec_pool_start(&self->pool, self->threads, self->workspaces, (size_t)stride, error);
}

static edgec_status set_up(edgec_instance *self, const char *path, const edgec_options *options,
                           char *error) {
  edgec_status status = edgec_choose_variant(self, options->variant, error);
  if (status == EDGEC_OK) status = edgec_open_weights(self, path, options, error);
  if (status == EDGEC_OK) status = reserve_arena(self, error);
  if (status == EDGEC_OK && options->profile) status = reserve_profile(self, error);
  if (status == EDGEC_OK) status = start_threads(self, error);
  return status;
}

edgec_status edgec_create(const edgec_model *model, const char *weights_path,
                          const edgec_options *options, edgec_instance **out, char *error) {
  if (error) error[0] = 0;
  if (out) *out = NULL;
  if (!model || !out) {
    return edgec_explain(error, EDGEC_NULL_ARGUMENT, "[edgec_create] got NULL; need model and out");
  }
  if (model->abi != EDGEC_ABI) {
    return edgec_explain(error, EDGEC_OTHER_VERSION,
                         "[edgec_create] got a model of ABI %d; need %d; build it again with the "
                         "edgec that this library is of",
                         model->abi, EDGEC_ABI);
  }
  if (!options) options = &defaults;
  edgec_status status = check_options(options, error);
  if (status) return status;
  edgec_instance *self = edgec_reserve(sizeof *self);
  if (!self) return no_memory("instance", sizeof *self, error);
  self->model = model;
  self->threads = options->threads ? options->threads : 1;
  atomic_flag_clear(&self->busy);
  status = set_up(self, weights_path, options, error);
  if (status) {
    edgec_destroy(self);
    return status;
  }
  *out = self;
  return EDGEC_OK;
}

void edgec_destroy(edgec_instance *self) {
  if (!self) return;
  edgec_pool_stop(self->pool);
  edgec_release(self->workspaces);
  edgec_release(self->profile);
  edgec_release(self->arena);
  edgec_file_unmap(&self->file);
  edgec_release(self);
}

const char *edgec_last_error(const edgec_instance *self) { return self ? self->error : ""; }

const edgec_profile *edgec_profile_of(const edgec_instance *self) {
  return self ? self->profile : NULL;
}

const char *edgec_variant_of(const edgec_instance *self) {
  return self && self->variant ? self->variant->name : "";
}

const unsigned char *edgec_weights(const edgec_instance *self) { return self->weights.payload; }

unsigned char *edgec_arena(edgec_instance *self) { return self->arena; }

const void *edgec_kernels(const edgec_instance *self) {
  return self->variant ? self->variant->kernels : NULL;
}
