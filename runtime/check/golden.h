/* Golden calls: what runtime/golden.py writes, checked against the model before anything is run. */
#ifndef EDGEC_GOLDEN_H
#define EDGEC_GOLDEN_H

#include "container.h"
#include "file.h"

/* How one output has to be. */
typedef struct golden_output {
  const edgec_entry *expected; /* NULL: not compared */
  const void *values;          /* expected ones */
  const double *tolerance;     /* NULL: the same values */
  int64_t tolerance_step;      /* 0: one for all, 1: one for each */
  int64_t exempt;              /* values that may be beyond the tolerance */
  int64_t count;               /* elements */
} golden_output;

typedef struct golden_call {
  int32_t function;
  const int64_t *dims;
  const void **inputs;
  void **outputs; /* buffers, NULL for states that stay in the instance */
  golden_output *golden;
} golden_call;

typedef struct golden_file {
  edgec_file file;
  edgec_container container;
  golden_call *calls;
  int32_t n_calls;
} golden_file;

/* Open and check all calls; buffers for the outputs are allocated. */
edgec_status golden_open(golden_file *self, const edgec_model *model, const char *path,
                         char *error);
void golden_close(golden_file *self, const edgec_model *model);

/* Sizes of a tensor for a call's dims; returns the number of elements. */
int64_t golden_sizes(const edgec_tensor *tensor, const int64_t *dims, int64_t *sizes);

#endif
