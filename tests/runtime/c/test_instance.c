/* Creation, calls and end of instances of the tiny model, and everything that can be wrong about
 * them: test_instance WEIGHTS OTHER_WEIGHTS. */
#include <pthread.h>
#include <stdatomic.h>

#include "edgec/runtime.h"
#include "expect.h"

static const char *weights, *other_weights;

static edgec_instance *create(int32_t threads) {
  edgec_options options = EDGEC_DEFAULTS;
  edgec_instance *made;
  char error[EDGEC_ERROR_BYTES];
  options.threads = threads;
  EXPECT(edgec_create(edgec_model_of(), weights, &options, &made, error) == EDGEC_OK);
  EXPECT(made && !error[0]);
  return made;
}

static void expect_refused(edgec_status expected, const char *part, const edgec_model *model,
                           const char *path, const edgec_options *options) {
  edgec_instance *made = (edgec_instance *)(uintptr_t)64;
  char error[EDGEC_ERROR_BYTES] = "unset";
  EXPECT(edgec_create(model, path, options, &made, error) == expected);
  EXPECT(made == NULL);
  EXPECT_TEXT(error, part);
  EXPECT(edgec_create(model, path, options, &made, NULL) == expected);
}

/* ---------------------------------------------------------------- creation */
static void refuses_bad_arguments(void) {
  char error[EDGEC_ERROR_BYTES];
  expect_refused(EDGEC_NULL_ARGUMENT, "need model and out", NULL, weights, NULL);
  EXPECT(edgec_create(edgec_model_of(), weights, NULL, NULL, error) == EDGEC_NULL_ARGUMENT);
  expect_refused(EDGEC_NULL_ARGUMENT, "no path", edgec_model_of(), NULL, NULL);
  edgec_destroy(NULL);
  EXPECT(edgec_call(NULL, 0, NULL, NULL, NULL) == EDGEC_NULL_ARGUMENT);
  EXPECT(!strcmp(edgec_last_error(NULL), ""));
}

static void refuses_bad_options(void) {
  const edgec_model *model = edgec_model_of();
  edgec_options options = EDGEC_DEFAULTS;
  options.threads = -1;
  expect_refused(EDGEC_BAD_OPTION, "[threads] got -1", model, weights, &options);
  options.threads = 100000;
  expect_refused(EDGEC_BAD_OPTION, "[threads] got 100000", model, weights, &options);
  options = (edgec_options){.verify = 2};
  expect_refused(EDGEC_BAD_OPTION, "[verify] got 2", model, weights, &options);
  options = (edgec_options){.profile = -1};
  expect_refused(EDGEC_BAD_OPTION, "[profile] got -1", model, weights, &options);
  options = (edgec_options){.variant = "unheard_of"};
  expect_refused(EDGEC_NO_SUCH_NAME, "none_has_it, plain", model, weights, &options);
  options = (edgec_options){.variant = "none_has_it"};
  expect_refused(EDGEC_UNSUPPORTED_CPU, "none_has_it", model, weights, &options);
}

static void refuses_models_that_cannot_run(void) {
  edgec_model model = *edgec_model_of();
  model.abi = EDGEC_ABI + 1;
  expect_refused(EDGEC_OTHER_VERSION, "ABI 2", &model, weights, NULL);
  model = *edgec_model_of();
  model.n_variants = 1; /* the one that no CPU has */
  expect_refused(EDGEC_UNSUPPORTED_CPU, "none_has_it", &model, weights, NULL);
  model = *edgec_model_of();
  model.arena_bytes = UINT64_MAX;
  expect_refused(EDGEC_OUT_OF_MEMORY, "[arena]", &model, weights, NULL);
  model = *edgec_model_of();
  model.workspace_bytes = UINT64_MAX - 7;
  expect_refused(EDGEC_OUT_OF_MEMORY, "[workspace]", &model, weights, NULL);
}

static void refuses_weights_of_others(void) {
  const edgec_model *model = edgec_model_of();
  edgec_options quick = {.verify = 0};
  expect_refused(EDGEC_OTHER_MODEL, "weights of \"other\"", model, other_weights, NULL);
  expect_refused(EDGEC_OTHER_MODEL, "weights of \"other\"", model, other_weights, &quick);
  expect_refused(EDGEC_CANNOT_OPEN, "No such file", model, "/nowhere/at/all", NULL);
  expect_refused(EDGEC_CANNOT_OPEN, "no regular file", model, "/", NULL);
  expect_refused(EDGEC_CANNOT_OPEN, "no regular file", model, "/dev/null", NULL);
  edgec_model bigger = *model;
  bigger.weights_bytes += 64;
  expect_refused(EDGEC_OTHER_MODEL, "need those", &bigger, weights, &quick);
}

/* The reason stands behind the path, and has to be there for any path. */
static void shortens_long_paths(void) {
  char path[600] = "";
  for (int i = 0; i < 59; i++) strcat(path, "/a_folder_");
  expect_refused(EDGEC_CANNOT_OPEN, "/a_folder_] cannot open it: No such file", edgec_model_of(),
                 path, NULL);
}

static unsigned char *load(const char *path, size_t *size) {
  FILE *file = fopen(path, "rb");
  unsigned char *bytes = aligned_alloc(64, 1 << 16);
  EXPECT(file && bytes);
  *size = fread(bytes, 1, 1 << 16, file);
  fclose(file);
  return bytes;
}

static void takes_weights_from_memory(void) {
  edgec_options options = EDGEC_DEFAULTS;
  edgec_instance *made;
  unsigned char *bytes = load(weights, &options.weights_size);
  options.weights = bytes;
  EXPECT(edgec_create(edgec_model_of(), NULL, &options, &made, NULL) == EDGEC_OK);
  edgec_destroy(made);
  options.weights_size--;
  expect_refused(EDGEC_TRUNCATED, "[options.weights]", edgec_model_of(), NULL, &options);
  options.weights_size++;
  bytes[options.weights_size - 64] ^= 1;
  expect_refused(EDGEC_DAMAGED, "[options.weights]", edgec_model_of(), NULL, &options);
  free(bytes);
}

/* ---------------------------------------------------------------- calls */
static edgec_status embed(edgec_instance *self, const int64_t *tokens, int64_t seq, float *y) {
  const void *inputs[] = {tokens};
  void *outputs[] = {y};
  return edgec_call(self, edgec_find(edgec_model_of(), "embed"), &seq, inputs, outputs);
}

static void computes(void) {
  for (int32_t threads = 0; threads <= 4; threads++) {
    edgec_instance *self = create(threads);
    int64_t tokens[64];
    float y[64 * 8];
    for (int i = 0; i < 64; i++) tokens[i] = i * 5 % 16;
    EXPECT(embed(self, tokens, 64, y) == EDGEC_OK);
    for (int i = 0; i < 64 * 8; i++) {
      EXPECT(y[i] == 0.5f * (float)(tokens[i / 8] * 8 + i % 8));
    }
    EXPECT(!strcmp(edgec_last_error(self), ""));
    EXPECT(!strcmp(edgec_variant_of(self), "plain"));
    EXPECT(edgec_profile_of(self) == NULL);
    edgec_destroy(self);
  }
}

static void refuses_bad_calls(void) {
  edgec_instance *self = create(1);
  _Alignas(8) int64_t tokens[3] = {0, 15, 16};
  _Alignas(8) float y[64 * 8];
  int64_t seq = 2;
  const void *inputs[] = {tokens};
  void *outputs[] = {y};
  EXPECT(edgec_call(self, 3, &seq, inputs, outputs) == EDGEC_NO_SUCH_NAME);
  EXPECT(edgec_call(self, -1, &seq, inputs, outputs) == EDGEC_NO_SUCH_NAME);
  EXPECT_TEXT(edgec_last_error(self), "need 0 to 2");
  EXPECT(edgec_call(self, 0, NULL, inputs, outputs) == EDGEC_NULL_ARGUMENT);
  EXPECT(edgec_call(self, 0, &seq, NULL, outputs) == EDGEC_NULL_ARGUMENT);
  EXPECT(edgec_call(self, 0, &seq, inputs, NULL) == EDGEC_NULL_ARGUMENT);
  EXPECT(embed(self, NULL, 2, y) == EDGEC_NULL_ARGUMENT);
  EXPECT_TEXT(edgec_last_error(self), "[embed] got NULL for input 0, tokens[seq]");
  EXPECT(embed(self, tokens, 2, NULL) == EDGEC_NULL_ARGUMENT);
  EXPECT_TEXT(edgec_last_error(self), "output 0, y[seq, 8]");
  EXPECT(embed(self, tokens, 0, y) == EDGEC_DIM_OUT_OF_RANGE);
  EXPECT(embed(self, tokens, 65, y) == EDGEC_DIM_OUT_OF_RANGE);
  EXPECT_TEXT(edgec_last_error(self), "[embed] got seq=65; need 1 <= seq <= 64");
  EXPECT(embed(self, tokens, INT64_MIN, y) == EDGEC_DIM_OUT_OF_RANGE);
  EXPECT(embed(self, tokens, 3, y) == EDGEC_INDEX_OUT_OF_RANGE);
  EXPECT_TEXT(edgec_last_error(self), "[embed tokens] got 16 at 2; need 0 <= id < 16");
  tokens[1] = -1;
  EXPECT(embed(self, tokens, 2, y) == EDGEC_INDEX_OUT_OF_RANGE);
  void *odd = (char *)y + 2;
  EXPECT(edgec_call(self, 0, &seq, inputs, &odd) == EDGEC_MISALIGNED);
  EXPECT_TEXT(edgec_last_error(self), "need a multiple of 4 bytes");
  tokens[1] = 0;
  EXPECT(embed(self, tokens, 2, y) == EDGEC_OK); /* still usable */
  edgec_destroy(self);
}

static void step(edgec_instance *self, const float *sum, float *y, float *next) {
  float x[4] = {1, 2, 3, 4};
  const void *inputs[] = {x, sum};
  void *outputs[] = {y, next};
  EXPECT(edgec_call(self, edgec_find(edgec_model_of(), "step"), NULL, inputs, outputs) == EDGEC_OK);
}

static void keeps_states_for_null(void) {
  edgec_instance *self = create(1), *other = create(1);
  float y[4], sum[4] = {10, 10, 10, 10};
  for (int i = 1; i <= 3; i++) {
    step(self, NULL, y, NULL);
    EXPECT(y[3] == 0.5f * 4.0f * (float)i);
  }
  step(self, sum, y, sum); /* the caller's state; the kept one stays */
  EXPECT(sum[0] == 11.0f && y[0] == 5.5f);
  step(self, NULL, y, NULL);
  EXPECT(y[3] == 8.0f);
  step(other, NULL, y, NULL); /* of an instance of its own */
  EXPECT(y[3] == 2.0f);
  edgec_destroy(self);
  edgec_destroy(other);
}

static void takes_null_for_empty_tensors(void) {
  edgec_instance *self = create(1);
  int64_t n = 0;
  float y = 1, x = 3;
  const void *none[] = {NULL}, *one[] = {&x};
  void *outputs[] = {&y};
  EXPECT(edgec_call(self, 2, &n, none, outputs) == EDGEC_OK && y == 0);
  n = 1;
  EXPECT(edgec_call(self, 2, &n, one, outputs) == EDGEC_OK && y == 3);
  EXPECT(edgec_call(self, 2, &n, none, outputs) == EDGEC_NULL_ARGUMENT);
  edgec_destroy(self);
}

static void counts_kernels(void) {
  edgec_options options = EDGEC_DEFAULTS;
  edgec_instance *self;
  float y[4];
  options.profile = 1;
  EXPECT(edgec_create(edgec_model_of(), weights, &options, &self, NULL) == EDGEC_OK);
  for (int i = 0; i < 5; i++) step(self, NULL, y, NULL);
  const edgec_profile *profile = edgec_profile_of(self);
  EXPECT(profile[0].calls == 0 && profile[0].nanoseconds == 0);
  EXPECT(profile[1].calls == 5 && profile[1].nanoseconds > 0);
  edgec_destroy(self);
}

static void finds_functions(void) {
  const edgec_model *model = edgec_model_of();
  EXPECT(edgec_find(model, "embed") == 0 && edgec_find(model, "total") == 2);
  EXPECT(edgec_find(model, "") == -1 && edgec_find(model, NULL) == -1);
  EXPECT(edgec_find(NULL, "embed") == -1);
}

/* ---------------------------------------------------------------- threads of the caller */
static atomic_int inside, may_leave;

static edgec_status wait_inside(edgec_instance *self, const int64_t *dims,
                                const void *const *inputs, void *const *outputs) {
  (void)self, (void)dims, (void)inputs, (void)outputs;
  atomic_store(&inside, 1);
  while (!atomic_load(&may_leave)) {
  }
  return EDGEC_OK;
}

static void *call_first(void *self) {
  EXPECT(edgec_call(self, 0, NULL, NULL, NULL) == EDGEC_OK);
  return NULL;
}

static void tells_a_second_thread_that_it_is_busy(void) {
  edgec_function function = {.name = "wait", .run = wait_inside};
  edgec_model model = *edgec_model_of();
  model.functions = &function;
  model.n_functions = 1;
  edgec_instance *self;
  pthread_t thread;
  EXPECT(edgec_create(&model, weights, NULL, &self, NULL) == EDGEC_OK);
  EXPECT(pthread_create(&thread, NULL, call_first, self) == 0);
  while (!atomic_load(&inside)) {
  }
  EXPECT(edgec_call(self, 0, NULL, NULL, NULL) == EDGEC_BUSY);
  EXPECT(!strcmp(edgec_last_error(self), ""));
  EXPECT_TEXT(edgec_status_text(EDGEC_BUSY), "another thread");
  atomic_store(&may_leave, 1);
  pthread_join(thread, NULL);
  EXPECT(edgec_call(self, 0, NULL, NULL, NULL) == EDGEC_OK);
  edgec_destroy(self);
}

static void *use_own_instance(void *first_token) {
  edgec_instance *self = create(2);
  int64_t tokens[64];
  float y[64 * 8];
  for (int i = 0; i < 64; i++) tokens[i] = (*(const int *)first_token + i) % 16;
  for (int round = 0; round < 50; round++) {
    EXPECT(embed(self, tokens, 64, y) == EDGEC_OK);
    for (int i = 0; i < 64 * 8; i++) {
      EXPECT(y[i] == 0.5f * (float)(tokens[i / 8] * 8 + i % 8));
    }
  }
  edgec_destroy(self);
  return NULL;
}

static void instances_work_side_by_side(void) {
  pthread_t threads[3];
  int first[3] = {0, 5, 11};
  for (int i = 0; i < 3; i++) {
    EXPECT(pthread_create(&threads[i], NULL, use_own_instance, &first[i]) == 0);
  }
  for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
}

int main(int count, char **words) {
  EXPECT(count == 3);
  weights = words[1];
  other_weights = words[2];
  RUN(refuses_bad_arguments);
  RUN(refuses_bad_options);
  RUN(refuses_models_that_cannot_run);
  RUN(refuses_weights_of_others);
  RUN(shortens_long_paths);
  RUN(takes_weights_from_memory);
  RUN(computes);
  RUN(refuses_bad_calls);
  RUN(keeps_states_for_null);
  RUN(takes_null_for_empty_tensors);
  RUN(counts_kernels);
  RUN(finds_functions);
  RUN(tells_a_second_thread_that_it_is_busy);
  RUN(instances_work_side_by_side);
  return 0;
}
