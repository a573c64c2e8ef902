/* Creation where the system gives no more memory or threads: a status, nothing lost, and the next
 * try may succeed. test_limits WEIGHTS, without a sanitizer, since those need terabytes. */
#define _GNU_SOURCE
#include <sys/resource.h>

#include "edgec/runtime.h"
#include "expect.h"

enum { MEGABYTE = 1 << 20 };

static const char *weights;

static void limit_memory(rlim_t bytes) {
  struct rlimit limit;
  EXPECT(getrlimit(RLIMIT_AS, &limit) == 0);
  limit.rlim_cur = bytes;
  EXPECT(setrlimit(RLIMIT_AS, &limit) == 0);
}

static void expect_created(const edgec_model *model, int32_t threads, edgec_status expected,
                           const char *part) {
  edgec_options options = EDGEC_DEFAULTS;
  edgec_instance *made;
  char error[EDGEC_ERROR_BYTES];
  options.threads = threads;
  EXPECT(edgec_create(model, weights, &options, &made, error) == expected);
  EXPECT((made != NULL) == (expected == EDGEC_OK));
  EXPECT_TEXT(error, part);
  edgec_destroy(made);
}

static void tells_that_memory_is_missing(void) {
  edgec_model model = *edgec_model_of();
  model.arena_bytes = (uint64_t)300 * MEGABYTE;
  for (int i = 0; i < 3; i++) expect_created(&model, 1, EDGEC_OUT_OF_MEMORY, "[arena] no memory");
  model.arena_bytes = 64;
  model.workspace_bytes = (uint64_t)100 * MEGABYTE;
  for (int i = 0; i < 3; i++) {
    expect_created(&model, 4, EDGEC_OUT_OF_MEMORY, "[workspaces] no memory; need 419430400 bytes");
  }
  model.arena_bytes = (uint64_t)150 * MEGABYTE; /* twice would not fit, if any were lost */
  model.workspace_bytes = 64;
  for (int i = 0; i < 3; i++) expect_created(&model, 1, EDGEC_OK, "");
}

static void tells_that_threads_are_missing(void) {
  for (int i = 0; i < 3; i++) {
    expect_created(edgec_model_of(), 256, EDGEC_NO_THREADS, "of 256; need all; ask for fewer");
    expect_created(edgec_model_of(), 3, EDGEC_OK, "");
  }
}

int main(int count, char **words) {
  EXPECT(count == 2);
  weights = words[1];
  limit_memory((rlim_t)220 * MEGABYTE);
  RUN(tells_that_memory_is_missing);
  RUN(tells_that_threads_are_missing);
  return 0;
}
