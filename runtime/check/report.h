/* What a check prints: lines for people, or one JSON object. */
#ifndef EDGEC_REPORT_H
#define EDGEC_REPORT_H

#include "compare.h"

/* Everything that a check found. */
typedef struct findings {
  const edgec_model *model;
  const edgec_instance *instance;
  const golden_file *golden;
  comparison *const *comparisons; /* for each call, one for each output; count -1: not compared */
  const uint64_t *median_ns;      /* for each call */
  const uint64_t *least_ns;
  int32_t threads, repeat;
  int passed;
} findings;

void report_text(const findings *found);
void report_json(const findings *found);

#endif
