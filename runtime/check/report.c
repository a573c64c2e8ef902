/* Printing of a check's findings. */
#include "report.h"

#include <math.h>
#include <stdio.h>
#include <sys/resource.h>

/* Greatest memory that the process has held, its mapped pages of the weights included. */
static unsigned long long peak_bytes(void) {
  struct rusage usage;
  if (getrusage(RUSAGE_SELF, &usage)) return 0;
#ifdef __APPLE__
  return (unsigned long long)usage.ru_maxrss;
#else
  return (unsigned long long)usage.ru_maxrss * 1024;
#endif
}

static const edgec_function *function_of(const findings *found, int32_t call) {
  return &found->model->functions[found->golden->calls[call].function];
}

/* ---------------------------------------------------------------- text */
static void text_output(const edgec_tensor *tensor, const comparison *c) {
  if (c->count < 0) return;
  printf("  %-20s max error %.3g, %.2g of its tolerance", tensor->name, c->max_abs, c->max_ratio);
  if (c->beyond) {
    printf(", %lld of %lld beyond, first at %lld: got %.9g, need %.9g", (long long)c->beyond,
           (long long)c->count, (long long)c->first, c->got, c->want);
  }
  puts(c->passed ? "" : "  FAILED");
}

static void text_profile(const findings *found) {
  const edgec_profile *profile = edgec_profile_of(found->instance);
  if (!profile) return;
  puts("kernel: calls, total");
  for (int32_t i = 0; i < found->model->n_kernels; i++) {
    if (!profile[i].calls) continue;
    printf("  %-40s %10llu %12.3f ms\n", found->model->kernel_names[i],
           (unsigned long long)profile[i].calls, (double)profile[i].nanoseconds / 1e6);
  }
}

void report_text(const findings *found) {
  const edgec_model *model = found->model;
  printf("%s, edgec %s: variant %s, threads %d\n", model->name, model->version,
         edgec_variant_of(found->instance), found->threads);
  for (int32_t i = 0; i < found->golden->n_calls; i++) {
    const edgec_function *function = function_of(found, i);
    printf("call %d, %s: median of %d %.3f ms, least %.3f ms\n", i, function->name, found->repeat,
           (double)found->median_ns[i] / 1e6, (double)found->least_ns[i] / 1e6);
    for (int32_t j = 0; j < function->n_outputs; j++) {
      text_output(&function->outputs[j], &found->comparisons[i][j]);
    }
  }
  text_profile(found);
  printf("memory: peak %.1f MB; weights %.1f, arena %.1f, workspace %d x %.1f\n",
         (double)peak_bytes() / 1e6, (double)model->weights_bytes / 1e6,
         (double)model->arena_bytes / 1e6, found->threads, (double)model->workspace_bytes / 1e6);
  puts(found->passed ? "passed" : "FAILED");
}

/* ---------------------------------------------------------------- JSON */
static void json_text(const char *key, const char *text) {
  printf("\"%s\":\"", key);
  for (; *text; text++) {
    unsigned char c = (unsigned char)*text;
    if (c == '"' || c == '\\')
      printf("\\%c", c);
    else if (c < 32)
      printf("\\u%04x", c);
    else
      putchar(c);
  }
  putchar('"');
}

static void json_number(const char *key, double value) {
  if (isfinite(value))
    printf(",\"%s\":%.17g", key, value);
  else
    printf(",\"%s\":null", key);
}

static void json_output(const edgec_tensor *tensor, int32_t index, const comparison *c) {
  putchar('{');
  json_text("name", tensor->name);
  printf(",\"index\":%d,\"count\":%lld,\"beyond\":%lld,\"first\":%lld", index, (long long)c->count,
         (long long)c->beyond, (long long)c->first);
  json_number("max_abs", c->max_abs);
  json_number("max_ratio", c->max_ratio);
  printf(",\"passed\":%s}", c->passed ? "true" : "false");
}

static void json_call(const findings *found, int32_t number) {
  const edgec_function *function = function_of(found, number);
  putchar('{');
  json_text("function", function->name);
  printf(",\"dims\":[");
  for (int32_t i = 0; i < function->n_dims; i++) {
    printf("%s%lld", i ? "," : "", (long long)found->golden->calls[number].dims[i]);
  }
  printf("],\"median_ns\":%llu,\"least_ns\":%llu,\"outputs\":[",
         (unsigned long long)found->median_ns[number], (unsigned long long)found->least_ns[number]);
  int printed = 0;
  for (int32_t j = 0; j < function->n_outputs; j++) {
    if (found->comparisons[number][j].count < 0) continue;
    if (printed++) putchar(',');
    json_output(&function->outputs[j], j, &found->comparisons[number][j]);
  }
  printf("]}");
}

static void json_profile(const findings *found) {
  const edgec_profile *profile = edgec_profile_of(found->instance);
  printf(",\"profile\":[");
  for (int32_t i = 0; profile && i < found->model->n_kernels; i++) {
    printf(i ? ",{" : "{");
    json_text("kernel", found->model->kernel_names[i]);
    printf(",\"calls\":%llu,\"nanoseconds\":%llu}", (unsigned long long)profile[i].calls,
           (unsigned long long)profile[i].nanoseconds);
  }
  putchar(']');
}

void report_json(const findings *found) {
  const edgec_model *model = found->model;
  putchar('{');
  json_text("model", model->name);
  putchar(',');
  json_text("version", model->version);
  putchar(',');
  json_text("variant", edgec_variant_of(found->instance));
  printf(",\"threads\":%d,\"repeat\":%d,\"peak_bytes\":%llu", found->threads, found->repeat,
         peak_bytes());
  printf(",\"weights_bytes\":%llu,\"arena_bytes\":%llu,\"workspace_bytes\":%llu",
         (unsigned long long)model->weights_bytes, (unsigned long long)model->arena_bytes,
         (unsigned long long)model->workspace_bytes);
  printf(",\"passed\":%s,\"calls\":[", found->passed ? "true" : "false");
  for (int32_t i = 0; i < found->golden->n_calls; i++) {
    if (i) putchar(',');
    json_call(found, i);
  }
  putchar(']');
  json_profile(found);
  puts("}");
}
