/* What an output deviates from what is expected. */
#ifndef EDGEC_COMPARE_H
#define EDGEC_COMPARE_H

#include "golden.h"

typedef struct comparison {
  int64_t count, beyond; /* elements, and those beyond their tolerance */
  int64_t first;         /* index of the first one beyond, -1: none */
  double max_abs;        /* greatest |got - want|; infinite where only one of them is a number */
  double max_ratio;      /* greatest |got - want| / tolerance */
  double got, want;      /* at `first` */
  int passed;
} comparison;

comparison compare_output(const golden_output *golden, edgec_dtype dtype, const void *got);

/* Element `index` of an array of `dtype`. */
double element(edgec_dtype dtype, const void *array, int64_t index);

#endif
