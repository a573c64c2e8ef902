/* edgec runtime: what a compiled model needs beside its kernels.
 *
 * A model compiled by edgec is a C source with one function per function of the program, object
 * files with its kernels, and NAME.weights. The generated source describes itself in one constant
 * `edgec_model`; everything here works on that description, so that one check program, one Python
 * loader and one JavaScript loader serve every model.
 *
 * Rules: C11, no globals, no exit, nothing printed; no allocation after `edgec_create`; one
 * instance serves one thread at a time (a second one is told EDGEC_BUSY), several instances of a
 * model share nothing but the pages of the weights file.
 */
#ifndef EDGEC_RUNTIME_H
#define EDGEC_RUNTIME_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EDGEC_ABI 1           /* raised when a struct below changes */
#define EDGEC_ALIGNMENT 64    /* of weights and of everything in the arena, bytes */
#define EDGEC_ERROR_BYTES 256 /* longest error text, its end included */
#define EDGEC_MAX_RANK 8

/* Grouped by who has to act: 1.. the caller, 16.. the files, 32.. the machine. */
typedef enum edgec_status {
  EDGEC_OK = 0,
  EDGEC_NULL_ARGUMENT = 1,
  EDGEC_MISALIGNED = 2,
  EDGEC_DIM_OUT_OF_RANGE = 3,
  EDGEC_INDEX_OUT_OF_RANGE = 4,
  EDGEC_BUSY = 5,
  EDGEC_NO_SUCH_NAME = 6,
  EDGEC_BAD_OPTION = 7,
  EDGEC_PATTERN_MISFIT = 8,
  EDGEC_TOO_LONG = 9,
  EDGEC_BAD_TEXT = 10,
  EDGEC_CANNOT_OPEN = 16,
  EDGEC_TRUNCATED = 17,
  EDGEC_DAMAGED = 18,
  EDGEC_OTHER_MODEL = 19,
  EDGEC_OTHER_VERSION = 20,
  EDGEC_OUT_OF_MEMORY = 32,
  EDGEC_NO_THREADS = 33,
  EDGEC_UNSUPPORTED_CPU = 34
} edgec_status;

/* "EDGEC_BUSY" for EDGEC_BUSY; "EDGEC_?" for a number that is none. */
const char *edgec_status_name(edgec_status status);

/* What the status means, without the values of the case. */
const char *edgec_status_text(edgec_status status);

typedef enum edgec_dtype {
  EDGEC_F64,
  EDGEC_F32,
  EDGEC_F16,
  EDGEC_BF16,
  EDGEC_I64,
  EDGEC_I32,
  EDGEC_I16,
  EDGEC_I8,
  EDGEC_U8,
  EDGEC_BOOL
} edgec_dtype;

size_t edgec_dtype_bytes(edgec_dtype dtype);

/* ---------------------------------------------------------------- description of a model */
typedef struct edgec_instance edgec_instance;

typedef struct edgec_dim {
  const char *name;
  int64_t min, max; /* inclusive; memory is planned for max */
} edgec_dim;

/* An input, output or state. `shape` writes `rank` sizes for values of the function's dims. */
typedef struct edgec_tensor {
  const char *name;
  edgec_dtype dtype;
  int32_t rank;
  const char *shape_text; /* "[batch, seq]" */
  void (*shape)(const int64_t *dims, int64_t *sizes);
} edgec_tensor;

/* A value that lives in the instance between calls, such as a KV cache: the function's input
 * `input` and output `output` (indices) are the same buffer, zeros at first; the caller passes NULL
 * for both.
 * A caller that passes pointers instead has it read from and written to those buffers. */
typedef struct edgec_state {
  int32_t input, output;
} edgec_state;

typedef struct edgec_function {
  const char *name;
  const edgec_dim *dims;
  const edgec_tensor *inputs, *outputs;
  const edgec_state *states;
  int32_t n_dims, n_inputs, n_outputs, n_states;
  edgec_status (*run)(edgec_instance *self, const int64_t *dims, const void *const *inputs,
                      void *const *outputs);
} edgec_function;

/* Kernels of one instruction set: a struct of function pointers that the generated source reads. */
typedef struct edgec_variant {
  const char *name;       /* "x86_64_avx512" */
  int (*supported)(void); /* NULL: always */
  const void *kernels;
  const void *tasks; /* reserved: NULL */
} edgec_variant;

typedef struct edgec_model {
  int32_t abi; /* EDGEC_ABI of the compiler */
  const char *name;
  const char *version;           /* of edgec */
  uint64_t weights_bytes;        /* size of NAME.weights */
  uint8_t weights_hash[32];      /* SHA-256 of its payload, as its header has it */
  uint64_t arena_bytes;          /* activations and states at the dims' maxima */
  uint64_t workspace_bytes;      /* for each thread */
  const edgec_variant *variants; /* best first */
  const edgec_function *functions;
  const char *const *kernel_names; /* for profiles, by kernel number */
  int32_t n_variants, n_functions, n_kernels;
} edgec_model;

/* ---------------------------------------------------------------- instances */
typedef struct edgec_options {
  int32_t threads;     /* 0: one */
  int32_t verify;      /* 1: hash the weights when they are opened (default), 0: sizes only */
  int32_t profile;     /* 1: count calls and nanoseconds per kernel */
  const char *variant; /* NULL: the best that the CPU has */
  const void *weights; /* NULL: map the file; else the whole file in memory, 64-byte aligned,
                          which must outlive the instance */
  size_t weights_size;
} edgec_options;

#define EDGEC_DEFAULTS {1, 1, 0, NULL, NULL, 0}

/* Open the weights, reserve all memory, start the threads. `out` is NULL after a failure, whose
 * text is written to `error` (EDGEC_ERROR_BYTES; may be NULL). `options` may be NULL. */
edgec_status edgec_create(const edgec_model *model, const char *weights_path,
                          const edgec_options *options, edgec_instance **out, char *error);
void edgec_destroy(edgec_instance *self); /* NULL is fine */

/* Text of the last failure of this instance, "" before the first. EDGEC_BUSY leaves it as it is,
 * since the thread that is inside may be writing it; so does a NULL instance. */
const char *edgec_last_error(const edgec_instance *self);

/* Run function `index`: takes the instance for the calling thread, checks dims, null and misaligned
 * pointers, calls `run`. Inputs and outputs in the order of the description; a pointer may be NULL
 * for a state (see edgec_state) and for a tensor without elements. A pointer has to be a multiple
 * of its element's size. An output overlaps with no other output and with no input, but for that of
 * its own state: it may be written before all inputs are read. After an error, outputs and states
 * in the instance hold anything. */
edgec_status edgec_call(edgec_instance *self, int32_t index, const int64_t *dims,
                        const void *const *inputs, void *const *outputs);

/* Index of a function by name, -1 where there is none. */
int32_t edgec_find(const edgec_model *model, const char *function);

/* Profile since creation: calls and nanoseconds by kernel number; NULL without options.profile. */
typedef struct edgec_profile {
  uint64_t calls, nanoseconds;
} edgec_profile;
const edgec_profile *edgec_profile_of(const edgec_instance *self);
const char *edgec_variant_of(const edgec_instance *self);

/* Zeroed memory at a multiple of EDGEC_ALIGNMENT, for inputs and outputs; NULL when there is none.
 * `edgec_release` takes what `edgec_reserve` gave, or NULL. */
void *edgec_reserve(uint64_t bytes);
void edgec_release(void *block);

/* The model that is linked into this library or program: the generated source defines it, the check
 * program and the loaders ask for it. */
const edgec_model *edgec_model_of(void);

/* ---------------------------------------------------------------- for the generated source */
/* Work on items [begin, end) of a kernel; `workspace` is this thread's own. */
typedef void (*edgec_task)(const void *arguments, int32_t begin, int32_t end, void *workspace);

const unsigned char *edgec_weights(const edgec_instance *self); /* start of the payload */
unsigned char *edgec_arena(edgec_instance *self);
const void *edgec_kernels(const edgec_instance *self); /* of the variant */

/* Whether this CPU, and its system, have all features of a list such as "avx2,fma", by the names of
 * LLVM; 0 for a name that is not known. x86: avx2 fma f16c avxvnni avx512f avx512dq avx512bw
 * avx512vl avx512vnni; aarch64: neon fullfp16 dotprod i8mm bf16 sve. */
int edgec_cpu_has(const char *features);

/* Run a kernel over items [0, items), split over the threads into ranges of at least `grain`. */
void edgec_parallel(edgec_instance *self, int32_t kernel, edgec_task task, const void *arguments,
                    int32_t items, int32_t grain);

/* Set the last error; returns `status`. printf's format; without libc %s %c %d %u %x, l, ll, z. */
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
edgec_status edgec_fail(edgec_instance *self, edgec_status status, const char *format, ...);

/* EDGEC_OK where all `count` indices lie in [low, high), else a text that names the first one. */
edgec_status edgec_check_i64(edgec_instance *self, const char *what, const int64_t *index,
                             int64_t count, int64_t low, int64_t high);
edgec_status edgec_check_i32(edgec_instance *self, const char *what, const int32_t *index,
                             int64_t count, int64_t low, int64_t high);

#ifdef __cplusplus
}
#endif
#endif
