/* Checks of indices that come from outside, such as token ids. */
#include "edgec/runtime.h"

static edgec_status out_of_range(edgec_instance *self, const char *what, int64_t place,
                                 int64_t index, int64_t low, int64_t high) {
  return edgec_fail(self, EDGEC_INDEX_OUT_OF_RANGE, "[%s] got %lld at %lld; need %lld <= id < %lld",
                    what, (long long)index, (long long)place, (long long)low, (long long)high);
}

edgec_status edgec_check_i64(edgec_instance *self, const char *what, const int64_t *index,
                             int64_t count, int64_t low, int64_t high) {
  for (int64_t i = 0; i < count; i++) {
    if (index[i] < low || index[i] >= high) {
      return out_of_range(self, what, i, index[i], low, high);
    }
  }
  return EDGEC_OK;
}

edgec_status edgec_check_i32(edgec_instance *self, const char *what, const int32_t *index,
                             int64_t count, int64_t low, int64_t high) {
  for (int64_t i = 0; i < count; i++) {
    if (index[i] < low || index[i] >= high) {
      return out_of_range(self, what, i, index[i], low, high);
    }
  }
  return EDGEC_OK;
}
