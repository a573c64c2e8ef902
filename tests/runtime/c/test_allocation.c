/* Nothing is allocated after edgec_create: malloc and its kin are counted, libc's own uses too.
 * For glibc, whose functions stay reachable under other names: test_allocation WEIGHTS. */
#include <stdatomic.h>

#include "edgec/runtime.h"
#include "expect.h"

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

static atomic_int allocations;

void *malloc(size_t size) {
  atomic_fetch_add(&allocations, 1);
  return __libc_malloc(size);
}

void *calloc(size_t count, size_t size) {
  atomic_fetch_add(&allocations, 1);
  return __libc_calloc(count, size);
}

void *realloc(void *block, size_t size) {
  atomic_fetch_add(&allocations, 1);
  return __libc_realloc(block, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
  atomic_fetch_add(&allocations, 1);
  return __libc_memalign(alignment, size);
}

/* All functions, well and badly called. */
static void use(edgec_instance *self) {
  int64_t seq = 64, n = 16, too_long = 65, tokens[64] = {1, 2, 3}, bad[64] = {99};
  float y[64 * 8], x[16] = {1};
  const void *embed_inputs[] = {tokens}, *bad_inputs[] = {bad}, *step_inputs[] = {x, NULL};
  void *outputs[] = {y, NULL};
  EXPECT(edgec_call(self, 0, &seq, embed_inputs, outputs) == EDGEC_OK);
  EXPECT(edgec_call(self, 1, NULL, step_inputs, outputs) == EDGEC_OK);
  EXPECT(edgec_call(self, 2, &n, step_inputs, outputs) == EDGEC_OK);
  EXPECT(edgec_call(self, 0, &seq, bad_inputs, outputs) == EDGEC_INDEX_OUT_OF_RANGE);
  EXPECT(edgec_call(self, 0, &too_long, embed_inputs, outputs) == EDGEC_DIM_OUT_OF_RANGE);
  EXPECT(strlen(edgec_last_error(self)) > 0);
}

int main(int count, char **words) {
  EXPECT(count == 2);
  for (int32_t threads = 1; threads <= 3; threads++) {
    edgec_options options = {.threads = threads, .verify = 1, .profile = 1};
    edgec_instance *self;
    EXPECT(edgec_create(edgec_model_of(), words[1], &options, &self, NULL) == EDGEC_OK);
    EXPECT(atomic_load(&allocations) > 0);
    int before = atomic_load(&allocations);
    for (int i = 0; i < 20; i++) use(self);
    EXPECT(atomic_load(&allocations) == before);
    edgec_destroy(self);
  }
  return 0;
}
