/* Calls: the checks before a function runs, and what the function calls back. */
#include "errors.h"
#include "instance.h"

static edgec_status check_dims(edgec_instance *self, const edgec_function *function,
                               const int64_t *dims) {
  if (function->n_dims && !dims) {
    return edgec_fail(self, EDGEC_NULL_ARGUMENT, "[%s] got no dims; need %d", function->name,
                      function->n_dims);
  }
  for (int32_t i = 0; i < function->n_dims; i++) {
    const edgec_dim *dim = &function->dims[i];
    if (dims[i] < dim->min || dims[i] > dim->max) {
      return edgec_fail(self, EDGEC_DIM_OUT_OF_RANGE, "[%s] got %s=%lld; need %lld <= %s <= %lld",
                        function->name, dim->name, (long long)dims[i], (long long)dim->min,
                        dim->name, (long long)dim->max);
    }
  }
  return EDGEC_OK;
}

static int is_state(const edgec_function *function, int32_t index, int is_output) {
  for (int32_t i = 0; i < function->n_states; i++) {
    const edgec_state *state = &function->states[i];
    if ((is_output ? state->output : state->input) == index) return 1;
  }
  return 0;
}

static int is_empty(const edgec_tensor *tensor, const int64_t *dims) {
  int64_t sizes[EDGEC_MAX_RANK];
  tensor->shape(dims, sizes);
  for (int32_t axis = 0; axis < tensor->rank; axis++) {
    if (sizes[axis] == 0) return 1;
  }
  return 0;
}

static edgec_status check_pointer(edgec_instance *self, const edgec_function *function,
                                  const int64_t *dims, const void *pointer, int32_t index,
                                  int is_output) {
  const edgec_tensor *tensor = is_output ? &function->outputs[index] : &function->inputs[index];
  const char *side = is_output ? "output" : "input";
  if (!pointer) {
    if (is_state(function, index, is_output) || is_empty(tensor, dims)) return EDGEC_OK;
    return edgec_fail(self, EDGEC_NULL_ARGUMENT, "[%s] got NULL for %s %d, %s%s; need a buffer",
                      function->name, side, index, tensor->name, tensor->shape_text);
  }
  size_t bytes = edgec_dtype_bytes(tensor->dtype);
  if ((uintptr_t)pointer % bytes) {
    return edgec_fail(self, EDGEC_MISALIGNED,
                      "[%s] got a misaligned buffer for %s %d, %s; need a multiple of %d bytes",
                      function->name, side, index, tensor->name, (int)bytes);
  }
  return EDGEC_OK;
}

static edgec_status check_call(edgec_instance *self, const edgec_function *function,
                               const int64_t *dims, const void *const *inputs,
                               void *const *outputs) {
  edgec_status status = check_dims(self, function, dims);
  if (status) return status;
  if ((function->n_inputs && !inputs) || (function->n_outputs && !outputs)) {
    return edgec_fail(self, EDGEC_NULL_ARGUMENT, "[%s] got NULL; need arrays of pointers",
                      function->name);
  }
  for (int32_t i = 0; i < function->n_inputs && !status; i++) {
    status = check_pointer(self, function, dims, inputs[i], i, 0);
  }
  for (int32_t i = 0; i < function->n_outputs && !status; i++) {
    status = check_pointer(self, function, dims, outputs[i], i, 1);
  }
  return status;
}

edgec_status edgec_call(edgec_instance *self, int32_t index, const int64_t *dims,
                        const void *const *inputs, void *const *outputs) {
  if (!self) return EDGEC_NULL_ARGUMENT;
  if (atomic_flag_test_and_set_explicit(&self->busy, memory_order_acquire)) return EDGEC_BUSY;
  edgec_status status;
  const edgec_model *model = self->model;
  if (index < 0 || index >= model->n_functions) {
    status = edgec_fail(self, EDGEC_NO_SUCH_NAME, "[edgec_call] got function %d; need 0 to %d",
                        index, model->n_functions - 1);
  } else {
    const edgec_function *function = &model->functions[index];
    status = check_call(self, function, dims, inputs, outputs);
    if (status == EDGEC_OK) status = function->run(self, dims, inputs, outputs);
  }
  atomic_flag_clear_explicit(&self->busy, memory_order_release);
  return status;
}

int32_t edgec_find(const edgec_model *model, const char *function) {
  if (!model || !function) return -1;
  for (int32_t i = 0; i < model->n_functions; i++) {
    if (strcmp(model->functions[i].name, function) == 0) return i;
  }
  return -1;
}

edgec_status edgec_fail(edgec_instance *self, edgec_status status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  edgec_format(self->error, EDGEC_ERROR_BYTES, format, arguments);
  va_end(arguments);
  return status;
}

/* Ranges per thread: enough that a thread which was late, or got cheap items, finds more to do. */
enum { CHUNKS_PER_THREAD = 4 };

static void run_task(edgec_instance *self, edgec_task task, const void *arguments, int32_t items,
                     int32_t grain) {
  int32_t chunks = items / (grain > 1 ? grain : 1);
  int32_t most = self->threads * CHUNKS_PER_THREAD;
  if (chunks > most) chunks = most;
  if (chunks < 2 || !self->pool) {
    task(arguments, 0, items, self->workspaces);
  } else {
    edgec_pool_run(self->pool, task, arguments, items, chunks);
  }
}

void edgec_parallel(edgec_instance *self, int32_t kernel, edgec_task task, const void *arguments,
                    int32_t items, int32_t grain) {
  if (items <= 0) return;
  if (!self->profile || kernel < 0 || kernel >= self->model->n_kernels) {
    run_task(self, task, arguments, items, grain);
    return;
  }
  uint64_t start_ns = edgec_now_ns();
  run_task(self, task, arguments, items, grain);
  self->profile[kernel].nanoseconds += edgec_now_ns() - start_ns;
  self->profile[kernel].calls++;
}
