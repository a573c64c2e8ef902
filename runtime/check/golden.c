/* Reader of golden calls. */
#include "golden.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "errors.h"
#include "platform.h"

enum { NAME_BYTES = 256 };

/* What the checks of one call share. */
typedef struct reading {
  const golden_file *file;
  const edgec_function *function;
  const char *path;
  int32_t number;
  char *error;
} reading;

static edgec_status misfit(const reading *self, const char *what, int32_t index) {
  return edgec_explain(self->error, EDGEC_DAMAGED,
                       "[%s] got call %d of %s with a misfit of %s %d; need the golden calls of "
                       "this model",
                       self->path, self->number, self->function->name, what, index);
}

static const edgec_entry *entry_of(const reading *self, const char *what, int32_t index) {
  char name[NAME_BYTES];
  snprintf(name, sizeof name, "%d/%s/%s/%d", self->number, self->function->name, what, index);
  return edgec_entry_find(&self->file->container, name);
}

int64_t golden_sizes(const edgec_tensor *tensor, const int64_t *dims, int64_t *sizes) {
  int64_t count = 1;
  tensor->shape(dims, sizes);
  for (int32_t axis = 0; axis < tensor->rank; axis++) count *= sizes[axis];
  return count;
}

static int has_type(const edgec_entry *entry, edgec_dtype dtype, int32_t rank,
                    const int64_t *sizes) {
  if (entry->dtype != (uint32_t)dtype || entry->rank != (uint32_t)rank) return 0;
  for (int32_t axis = 0; axis < rank; axis++) {
    if (entry->sizes[axis] != (uint64_t)sizes[axis]) return 0;
  }
  return 1;
}

static int is_state_input(const edgec_function *function, int32_t index) {
  for (int32_t i = 0; i < function->n_states; i++) {
    if (function->states[i].input == index) return 1;
  }
  return 0;
}

static edgec_status read_input(const reading *self, golden_call *call, int32_t index) {
  const edgec_tensor *tensor = &self->function->inputs[index];
  const edgec_entry *entry = entry_of(self, "input", index);
  if (!entry) {
    return is_state_input(self->function, index) ? EDGEC_OK : misfit(self, "input", index);
  }
  int64_t sizes[EDGEC_MAX_RANK];
  golden_sizes(tensor, call->dims, sizes);
  if (!has_type(entry, tensor->dtype, tensor->rank, sizes)) return misfit(self, "input", index);
  call->inputs[index] = edgec_entry_data(&self->file->container, entry);
  return EDGEC_OK;
}

/* A state whose input stays in the instance and of whose output nothing is expected stays too. */
static int stays(const reading *self, const golden_call *call, int32_t index) {
  for (int32_t i = 0; i < self->function->n_states; i++) {
    const edgec_state *state = &self->function->states[i];
    if (state->output == index && !call->inputs[state->input]) {
      return !call->golden[index].expected;
    }
  }
  return 0;
}

static edgec_status read_tolerance(const reading *self, golden_output *output, int32_t index,
                                   const edgec_tensor *tensor, const int64_t *sizes) {
  const edgec_entry *tolerance = entry_of(self, "tolerance", index);
  if (tolerance) {
    int each = tolerance->rank > 0;
    if (!has_type(tolerance, EDGEC_F64, each ? tensor->rank : 0, sizes)) {
      return misfit(self, "tolerance", index);
    }
    output->tolerance = edgec_entry_data(&self->file->container, tolerance);
    output->tolerance_step = each;
  }
  const edgec_entry *exempt = entry_of(self, "exempt", index);
  if (exempt) {
    if (!has_type(exempt, EDGEC_I64, 0, NULL)) return misfit(self, "exempt", index);
    memcpy(&output->exempt, edgec_entry_data(&self->file->container, exempt), 8);
  }
  return EDGEC_OK;
}

static edgec_status read_output(const reading *self, golden_call *call, int32_t index) {
  const edgec_tensor *tensor = &self->function->outputs[index];
  golden_output *output = &call->golden[index];
  int64_t sizes[EDGEC_MAX_RANK];
  output->count = golden_sizes(tensor, call->dims, sizes);
  output->expected = entry_of(self, "output", index);
  if (output->expected) {
    if (!has_type(output->expected, tensor->dtype, tensor->rank, sizes)) {
      return misfit(self, "output", index);
    }
    output->values = edgec_entry_data(&self->file->container, output->expected);
    edgec_status status = read_tolerance(self, output, index, tensor, sizes);
    if (status) return status;
  }
  if (stays(self, call, index)) return EDGEC_OK;
  uint64_t bytes = (uint64_t)output->count * edgec_dtype_bytes(tensor->dtype);
  call->outputs[index] = edgec_reserve(bytes);
  if (call->outputs[index]) return EDGEC_OK;
  return edgec_explain(self->error, EDGEC_OUT_OF_MEMORY, "[check] no memory for an output");
}

static edgec_status read_dims(const reading *self, golden_call *call, const edgec_entry *entry) {
  const edgec_function *function = self->function;
  int64_t count = function->n_dims;
  if (!has_type(entry, EDGEC_I64, 1, &count)) return misfit(self, "dims", 0);
  call->dims = edgec_entry_data(&self->file->container, entry);
  for (int32_t i = 0; i < function->n_dims; i++) {
    if (call->dims[i] < function->dims[i].min || call->dims[i] > function->dims[i].max) {
      return misfit(self, "dim", i);
    }
  }
  return EDGEC_OK;
}

static edgec_status read_call(const reading *self, golden_call *call, const edgec_entry *dims) {
  const edgec_function *function = self->function;
  call->inputs = calloc((size_t)function->n_inputs + 1, sizeof *call->inputs);
  call->outputs = calloc((size_t)function->n_outputs + 1, sizeof *call->outputs);
  call->golden = calloc((size_t)function->n_outputs + 1, sizeof *call->golden);
  if (!call->inputs || !call->outputs || !call->golden) {
    return edgec_explain(self->error, EDGEC_OUT_OF_MEMORY, "[check] no memory for a call");
  }
  edgec_status status = read_dims(self, call, dims);
  for (int32_t i = 0; i < function->n_inputs && !status; i++) status = read_input(self, call, i);
  for (int32_t i = 0; i < function->n_outputs && !status; i++) status = read_output(self, call, i);
  return status;
}

/* The entry `NUMBER/FUNCTION/dims` of call `number`, and the function's index; NULL: none. */
static const edgec_entry *find_call(const golden_file *self, const edgec_model *model,
                                    int32_t number, int32_t *function) {
  char name[NAME_BYTES];
  for (*function = 0; *function < model->n_functions; (*function)++) {
    snprintf(name, sizeof name, "%d/%s/dims", number, model->functions[*function].name);
    const edgec_entry *found = edgec_entry_find(&self->container, name);
    if (found) return found;
  }
  return NULL;
}

static edgec_status read_calls(golden_file *self, const edgec_model *model, const char *path,
                               char *error) {
  /* Each call has an entry of its own, so there are no more of them than entries. */
  self->calls = calloc((size_t)self->container.header->n_entries + 1, sizeof *self->calls);
  if (!self->calls) return edgec_explain(error, EDGEC_OUT_OF_MEMORY, "[check] no memory");
  for (int32_t number = 0;; number++) {
    golden_call *call = &self->calls[number];
    const edgec_entry *dims = find_call(self, model, number, &call->function);
    if (!dims) break;
    self->n_calls++;
    reading this = {self, &model->functions[call->function], path, number, error};
    edgec_status status = read_call(&this, call, dims);
    if (status) return status;
  }
  if (self->n_calls) return EDGEC_OK;
  return edgec_explain(error, EDGEC_OTHER_MODEL,
                       "[%s] got no call of a function of %s; need golden calls of this model",
                       path, model->name);
}

edgec_status golden_open(golden_file *self, const edgec_model *model, const char *path,
                         char *error) {
  memset(self, 0, sizeof *self);
  edgec_status status = edgec_file_map(&self->file, path, error);
  if (status) return status;
  const char *shown = edgec_shown_path(path);
  status = edgec_container_open(&self->container, self->file.bytes, self->file.size,
                                EDGEC_KIND_CALLS, 1, shown, error);
  if (status) return status;
  return read_calls(self, model, shown, error);
}

void golden_close(golden_file *self, const edgec_model *model) {
  for (int32_t i = 0; i < self->n_calls; i++) {
    golden_call *call = &self->calls[i];
    int32_t n_outputs = model->functions[call->function].n_outputs;
    for (int32_t j = 0; call->outputs && j < n_outputs; j++) edgec_release(call->outputs[j]);
    free(call->inputs);
    free(call->outputs);
    free(call->golden);
  }
  free(self->calls);
  edgec_file_unmap(&self->file);
}
