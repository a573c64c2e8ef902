/* Comparison of outputs with golden values. */
#include "compare.h"

#include <math.h>
#include <string.h>

static double from_f16(uint16_t bits) {
  int exponent = bits >> 10 & 31;
  double fraction = bits & 1023;
  double size = exponent == 31  ? (fraction != 0 ? NAN : INFINITY)
                : exponent == 0 ? ldexp(fraction, -24)
                                : ldexp(fraction + 1024, exponent - 25);
  return bits & 0x8000 ? -size : size;
}

static double from_bf16(uint16_t bits) {
  uint32_t wide = (uint32_t)bits << 16;
  float value;
  memcpy(&value, &wide, sizeof value);
  return value;
}

double element(edgec_dtype dtype, const void *array, int64_t index) {
  switch (dtype) {
    case EDGEC_F64:
      return ((const double *)array)[index];
    case EDGEC_F32:
      return ((const float *)array)[index];
    case EDGEC_F16:
      return from_f16(((const uint16_t *)array)[index]);
    case EDGEC_BF16:
      return from_bf16(((const uint16_t *)array)[index]);
    case EDGEC_I64:
      return (double)((const int64_t *)array)[index];
    case EDGEC_I32:
      return ((const int32_t *)array)[index];
    case EDGEC_I16:
      return ((const int16_t *)array)[index];
    case EDGEC_I8:
      return ((const int8_t *)array)[index];
    case EDGEC_U8:
    case EDGEC_BOOL:
      return ((const uint8_t *)array)[index];
  }
  return NAN;
}

/* |got - want|, 0 for the same bits, and for two NaNs. */
static double deviation(edgec_dtype dtype, const void *got, const void *want, int64_t index) {
  size_t bytes = edgec_dtype_bytes(dtype);
  size_t at = (size_t)index * bytes;
  if (memcmp((const char *)got + at, (const char *)want + at, bytes) == 0) return 0;
  double g = element(dtype, got, index), w = element(dtype, want, index);
  if (isnan(g) && isnan(w)) return 0;
  double error = fabs(g - w);
  if (isnan(error)) return INFINITY; /* one NaN, or infinities of two signs */
  int is_integer = dtype >= EDGEC_I64;
  return error == 0 && is_integer ? 1 : error; /* large i64 that are one double */
}

comparison compare_output(const golden_output *golden, edgec_dtype dtype, const void *got) {
  comparison found = {.count = golden->count, .first = -1};
  for (int64_t i = 0; i < golden->count; i++) {
    double error = deviation(dtype, got, golden->values, i);
    double allowed = golden->tolerance ? golden->tolerance[i * golden->tolerance_step] : 0;
    if (error > found.max_abs) found.max_abs = error;
    if (error > 0 && error / allowed > found.max_ratio) found.max_ratio = error / allowed;
    if (error <= allowed) continue;
    found.beyond++;
    if (found.first >= 0) continue;
    found.first = i;
    found.got = element(dtype, got, i);
    found.want = element(dtype, golden->values, i);
  }
  found.passed = found.beyond <= golden->exempt;
  return found;
}
