/* check MODEL.weights GOLDEN [options]: replay golden calls on this machine and compare.
 *
 * Exit status: 0 all outputs are as expected, 1 some are not or a call failed, 2 the files or the
 * options cannot be used. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "outputs.h"
#include "platform.h"
#include "report.h"

static const char usage[] =
    "check MODEL.weights GOLDEN [--threads N] [--repeat N] [--variant NAME] [--profile]\n"
    "      [--json] [--out FILE]\n"
    "  --repeat N    replay all calls N times and print the median time; the first is compared\n"
    "  --profile     calls and time of each kernel\n"
    "  --json        one JSON object instead of lines\n"
    "  --out FILE    write the outputs\n";

typedef struct arguments {
  const char *weights, *golden, *out;
  edgec_options options;
  int32_t repeat;
  int json;
} arguments;

static int parse_count(const char *text, int32_t *value) {
  char *end;
  long number = text ? strtol(text, &end, 10) : 0;
  if (!text || end == text || *end || number < 1 || number > 1000000) return 0;
  *value = (int32_t)number;
  return 1;
}

/* One option; the number of words that it takes, 0: unknown or wrong. `next` may be NULL. */
static int parse_option(arguments *self, const char *word, const char *next) {
  if (!strcmp(word, "--profile")) return self->options.profile = 1;
  if (!strcmp(word, "--json")) return self->json = 1;
  if (!strcmp(word, "--threads")) return parse_count(next, &self->options.threads) ? 2 : 0;
  if (!strcmp(word, "--repeat")) return parse_count(next, &self->repeat) ? 2 : 0;
  if (!strcmp(word, "--variant")) return (self->options.variant = next) ? 2 : 0;
  if (!strcmp(word, "--out")) return (self->out = next) ? 2 : 0;
  return 0;
}

static int parse(arguments *self, int count, char **words) {
  for (int i = 1; i < count;) {
    if (words[i][0] == '-') {
      int taken = parse_option(self, words[i], i + 1 < count ? words[i + 1] : NULL);
      if (!taken) return 0;
      i += taken;
    } else {
      const char **place = self->weights ? &self->golden : &self->weights;
      if (*place) return 0;
      *place = words[i++];
    }
  }
  return self->weights && self->golden;
}

static int by_size(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return x < y ? -1 : x > y;
}

/* Times of a run of calls: times_ns[call * repeat + repetition]. */
typedef struct timing {
  uint64_t *times_ns, *median_ns, *least_ns;
} timing;

static void compare_call(const edgec_function *function, const golden_call *call,
                         comparison *comparisons, int *passed) {
  for (int32_t j = 0; j < function->n_outputs; j++) {
    comparisons[j].count = -1;
    if (!call->golden[j].expected) continue;
    comparisons[j] = compare_output(&call->golden[j], function->outputs[j].dtype, call->outputs[j]);
    *passed &= comparisons[j].passed;
  }
}

/* Replay everything once; 0 after a failed call. Later repetitions are for the time only: states
 * that stay in the instance are then other than at the first. */
static int replay(edgec_instance *instance, const golden_file *golden, int32_t repetition,
                  int32_t repeat, const timing *times) {
  for (int32_t i = 0; i < golden->n_calls; i++) {
    const golden_call *call = &golden->calls[i];
    uint64_t start_ns = edgec_now_ns();
    edgec_status status =
        edgec_call(instance, call->function, call->dims, call->inputs, call->outputs);
    times->times_ns[(size_t)i * (size_t)repeat + (size_t)repetition] = edgec_now_ns() - start_ns;
    if (status) {
      fprintf(stderr, "call %d: %s: %s\n", i, edgec_status_name(status),
              edgec_last_error(instance));
      return 0;
    }
  }
  return 1;
}

static void summarize(const timing *times, int32_t n_calls, int32_t repeat) {
  for (int32_t i = 0; i < n_calls; i++) {
    uint64_t *mine = times->times_ns + (size_t)i * (size_t)repeat;
    qsort(mine, (size_t)repeat, sizeof *mine, by_size);
    times->median_ns[i] = mine[repeat / 2];
    times->least_ns[i] = mine[0];
  }
}

/* Replay, compare, report; the exit status. */
static int check(const arguments *given, findings *found, edgec_instance *instance,
                 comparison **comparisons, const timing *times) {
  const golden_file *golden = found->golden;
  if (!replay(instance, golden, 0, given->repeat, times)) return 1;
  for (int32_t i = 0; i < golden->n_calls; i++) {
    const golden_call *call = &golden->calls[i];
    compare_call(&found->model->functions[call->function], call, comparisons[i], &found->passed);
  }
  char error[EDGEC_ERROR_BYTES];
  if (given->out && outputs_write(given->out, found->model, golden, error)) {
    fprintf(stderr, "%s\n", error);
    return 2;
  }
  for (int32_t i = 1; i < given->repeat; i++) {
    if (!replay(instance, golden, i, given->repeat, times)) return 1;
  }
  summarize(times, golden->n_calls, given->repeat);
  if (given->json)
    report_json(found);
  else
    report_text(found);
  return found->passed ? 0 : 1;
}

static int check_with_memory(const arguments *given, findings *found, edgec_instance *instance) {
  size_t n_calls = (size_t)found->golden->n_calls;
  timing times = {calloc(n_calls * (size_t)given->repeat, 8), calloc(n_calls, 8),
                  calloc(n_calls, 8)};
  comparison **comparisons = calloc(n_calls, sizeof *comparisons);
  int enough = times.times_ns && times.median_ns && times.least_ns && comparisons;
  for (size_t i = 0; enough && i < n_calls; i++) {
    int32_t function = found->golden->calls[i].function;
    size_t n_outputs = (size_t)found->model->functions[function].n_outputs;
    comparisons[i] = calloc(n_outputs + 1, sizeof **comparisons);
    enough = comparisons[i] != NULL;
  }
  found->comparisons = comparisons;
  found->median_ns = times.median_ns;
  found->least_ns = times.least_ns;
  int result = enough ? check(given, found, instance, comparisons, &times) : 2;
  if (!enough) fprintf(stderr, "no memory for the results\n");
  for (size_t i = 0; comparisons && i < n_calls; i++) free(comparisons[i]);
  free(comparisons);
  free(times.times_ns);
  free(times.median_ns);
  free(times.least_ns);
  return result;
}

int main(int count, char **words) {
  arguments given = {.options = EDGEC_DEFAULTS, .repeat = 1};
  if (!parse(&given, count, words)) {
    fputs(usage, stderr);
    return 2;
  }
  const edgec_model *model = edgec_model_of();
  char error[EDGEC_ERROR_BYTES] = "";
  edgec_instance *instance;
  golden_file golden = {.calls = NULL};
  int result = 2;
  edgec_status status = edgec_create(model, given.weights, &given.options, &instance, error);
  if (status == EDGEC_OK) status = golden_open(&golden, model, given.golden, error);
  if (status == EDGEC_OK) {
    findings found = {.model = model,
                      .instance = instance,
                      .golden = &golden,
                      .passed = 1,
                      .threads = given.options.threads,
                      .repeat = given.repeat};
    result = check_with_memory(&given, &found, instance);
  } else {
    fprintf(stderr, "%s: %s\n", edgec_status_name(status), error);
  }
  golden_close(&golden, model);
  edgec_destroy(instance);
  return result;
}
