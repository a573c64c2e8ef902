/* A model written by hand in the form of generated ones: what the tests of the library run.
 *
 *   embed(tokens i64[seq]) -> y f32[seq, 8]            y = table[tokens] * scale, over the threads
 *   step(x f32[4], sum f32[4]) -> (y f32[4], sum')     sum' = sum + x, y = sum' * scale; sum is a
 * state total(x f32[n]) -> y f32[1]                        a sum by way of the threads' workspaces
 *
 * TINY_HASH and TINY_WEIGHTS_BYTES describe the weights that the test wrote. */
#include "edgec/runtime.h"

enum { WIDTH = 8, VOCABULARY = 16, STATE_WIDTH = 4, TABLE = 0, SCALE = WIDTH * VOCABULARY * 4 };
enum { KERNEL_EMBED, KERNEL_STEP, KERNEL_TOTAL };

typedef struct kernels {
  float factor;
} kernels;

typedef struct embed_arguments {
  const int64_t *tokens;
  const float *table, *scale;
  float *y;
} embed_arguments;

static void embed_task(const void *arguments, int32_t begin, int32_t end, void *workspace) {
  const embed_arguments *a = arguments;
  (void)workspace;
  for (int32_t i = begin; i < end; i++) {
    for (int32_t j = 0; j < WIDTH; j++) {
      a->y[i * WIDTH + j] = a->table[a->tokens[i] * WIDTH + j] * a->scale[0];
    }
  }
}

static edgec_status run_embed(edgec_instance *self, const int64_t *dims, const void *const *inputs,
                              void *const *outputs) {
  const unsigned char *weights = edgec_weights(self);
  embed_arguments a = {inputs[0], (const float *)(const void *)(weights + TABLE),
                       (const float *)(const void *)(weights + SCALE), outputs[0]};
  edgec_status status = edgec_check_i64(self, "embed tokens", a.tokens, dims[0], 0, VOCABULARY);
  if (status) return status;
  edgec_parallel(self, KERNEL_EMBED, embed_task, &a, (int32_t)dims[0], 1);
  return EDGEC_OK;
}

typedef struct step_arguments {
  const float *x, *sum;
  float *next, *y, scale;
} step_arguments;

static void step_task(const void *arguments, int32_t begin, int32_t end, void *workspace) {
  const step_arguments *a = arguments;
  (void)workspace;
  for (int32_t i = begin; i < end; i++) {
    a->next[i] = a->sum[i] + a->x[i];
    a->y[i] = a->next[i] * a->scale;
  }
}

static edgec_status run_step(edgec_instance *self, const int64_t *dims, const void *const *inputs,
                             void *const *outputs) {
  float *state = (float *)(void *)edgec_arena(self);
  const kernels *table = edgec_kernels(self);
  (void)dims;
  step_arguments a = {inputs[0], inputs[1] ? inputs[1] : state, outputs[1] ? outputs[1] : state,
                      outputs[0], table->factor};
  a.scale *= ((const float *)(const void *)(edgec_weights(self) + SCALE))[0];
  edgec_parallel(self, KERNEL_STEP, step_task, &a, STATE_WIDTH, STATE_WIDTH);
  return EDGEC_OK;
}

typedef struct total_arguments {
  const float *x;
  float *partial; /* one for each item */
} total_arguments;

static void total_task(const void *arguments, int32_t begin, int32_t end, void *workspace) {
  const total_arguments *a = arguments;
  float *sum = workspace;
  for (int32_t i = begin; i < end; i++) {
    *sum = a->x[i];
    a->partial[i % 16] = *sum;
  }
}

static edgec_status run_total(edgec_instance *self, const int64_t *dims, const void *const *inputs,
                              void *const *outputs) {
  float partial[16] = {0};
  total_arguments a = {inputs[0], partial};
  float *y = outputs[0];
  edgec_parallel(self, KERNEL_TOTAL, total_task, &a, (int32_t)dims[0], 1);
  *y = 0;
  for (int32_t i = 0; i < (int32_t)dims[0]; i++) *y += partial[i];
  return EDGEC_OK;
}

static void shape_seq(const int64_t *dims, int64_t *sizes) { sizes[0] = dims[0]; }
static void shape_seq_8(const int64_t *dims, int64_t *sizes) { sizes[0] = dims[0], sizes[1] = 8; }
static void shape_4(const int64_t *dims, int64_t *sizes) { (void)dims, sizes[0] = STATE_WIDTH; }
static void shape_1(const int64_t *dims, int64_t *sizes) { (void)dims, sizes[0] = 1; }

static const edgec_dim embed_dims[] = {{"seq", 1, 64}};
static const edgec_tensor embed_inputs[] = {{"tokens", EDGEC_I64, 1, "[seq]", shape_seq}};
static const edgec_tensor embed_outputs[] = {{"y", EDGEC_F32, 2, "[seq, 8]", shape_seq_8}};
static const edgec_tensor step_inputs[] = {{"x", EDGEC_F32, 1, "[4]", shape_4},
                                           {"sum", EDGEC_F32, 1, "[4]", shape_4}};
static const edgec_tensor step_outputs[] = {{"y", EDGEC_F32, 1, "[4]", shape_4},
                                            {"sum", EDGEC_F32, 1, "[4]", shape_4}};
static const edgec_state step_states[] = {{1, 1}};
static const edgec_dim total_dims[] = {{"n", 0, 16}};
static const edgec_tensor total_inputs[] = {{"x", EDGEC_F32, 1, "[n]", shape_seq}};
static const edgec_tensor total_outputs[] = {{"y", EDGEC_F32, 1, "[1]", shape_1}};

static const edgec_function functions[] = {
    {"embed", embed_dims, embed_inputs, embed_outputs, NULL, 1, 1, 1, 0, run_embed},
    {"step", NULL, step_inputs, step_outputs, step_states, 0, 2, 2, 1, run_step},
    {"total", total_dims, total_inputs, total_outputs, NULL, 1, 1, 1, 0, run_total},
};

static int never(void) { return 0; }
static const kernels plain = {1.0f};
static const kernels fast = {1.0f};
static const edgec_variant variants[] = {{"none_has_it", never, &fast, NULL},
                                         {"plain", NULL, &plain, NULL}};
static const char *const kernel_names[] = {"embed", "step", "total"};

static const edgec_model model = {EDGEC_ABI, "tiny", "0.1.0",  TINY_WEIGHTS_BYTES, TINY_HASH,
                                  64,        64,     variants, functions,          kernel_names,
                                  2,         3,      3};

const edgec_model *edgec_model_of(void) { return &model; }
