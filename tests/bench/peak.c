/* Arithmetic peak of one AVX-512 VNNI core: twelve independent accumulation chains,
 * enough to cover the latency of both 512-bit ports. CPU time of the calling thread. */
#include <time.h>

static double cpu_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#define STEP(op, i) op " %%zmm30, %%zmm31, %%zmm" #i "\n\t"
#define CLEAR(i) "vpxord %%zmm" #i ", %%zmm" #i ", %%zmm" #i "\n\t"
/* clang-format moves these lines with each run. */
/* clang-format off */
#define STEPS(op)                                                                \
  STEP(op, 0) STEP(op, 1) STEP(op, 2) STEP(op, 3) STEP(op, 4) STEP(op, 5)        \
  STEP(op, 6) STEP(op, 7) STEP(op, 8) STEP(op, 9) STEP(op, 10) STEP(op, 11)
#define CLEARS                                                                   \
  CLEAR(0) CLEAR(1) CLEAR(2) CLEAR(3) CLEAR(4) CLEAR(5) CLEAR(6) CLEAR(7)        \
  CLEAR(8) CLEAR(9) CLEAR(10) CLEAR(11) CLEAR(30) CLEAR(31)
/* clang-format on */
#define CLOBBERS                                                                           \
  "zmm0", "zmm1", "zmm2", "zmm3", "zmm4", "zmm5", "zmm6", "zmm7", "zmm8", "zmm9", "zmm10", \
      "zmm11", "zmm30", "zmm31", "cc"

#define DEFINE_PEAK(function, op, lanes)                                                      \
  double function(long iterations) {                                                          \
    long left = iterations;                                                                   \
    double start = cpu_seconds();                                                             \
    __asm__ volatile(CLEARS "1:\n\t" STEPS(op) "dec %0\n\tjnz 1b" : "+r"(left) : : CLOBBERS); \
    return 2e-9 * 12 * (lanes) * (double)iterations / (cpu_seconds() - start);                \
  }

DEFINE_PEAK(peak_fp32, "vfmadd231ps", 16)
DEFINE_PEAK(peak_vnni, "vpdpbusd", 64)
