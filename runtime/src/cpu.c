/* What this CPU has. The compilers' own __builtin_cpu_supports is not used: zig 0.17 compiles it,
 * and it says no to everything, since libgcc's constructor that asks the CPU is not there. */
#include "edgec/runtime.h"
#include "platform.h"

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>

/* Registers that the system saves for a thread (XCR0): without them an instruction faults. */
enum { SSE_AVX = 0x6, SSE_AVX_AVX512 = 0xe6 };

typedef struct feature {
  const char *name;
  unsigned leaf, subleaf;
  int cpuid_register; /* 0 eax, 1 ebx, 2 ecx, 3 edx */
  int bit;
  unsigned saved;
} feature;

/* Intel SDM volume 2A, CPUID. */
static const feature features[] = {
    {"avx2", 7, 0, 1, 5, SSE_AVX},
    {"fma", 1, 0, 2, 12, SSE_AVX},
    {"f16c", 1, 0, 2, 29, SSE_AVX},
    {"avxvnni", 7, 1, 0, 4, SSE_AVX},
    {"avx512f", 7, 0, 1, 16, SSE_AVX_AVX512},
    {"avx512dq", 7, 0, 1, 17, SSE_AVX_AVX512},
    {"avx512bw", 7, 0, 1, 30, SSE_AVX_AVX512},
    {"avx512vl", 7, 0, 1, 31, SSE_AVX_AVX512},
    {"avx512vnni", 7, 0, 2, 11, SSE_AVX_AVX512},
};

static unsigned saved_registers(void) {
  unsigned eax, ebx, ecx, edx, low, high;
  if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx >> 27 & 1)) return 0; /* OSXSAVE */
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  (void)high;
  return low;
}

static int is_here(const feature *wanted) {
  unsigned registers[4];
  if (!__get_cpuid_count(wanted->leaf, wanted->subleaf, &registers[0], &registers[1], &registers[2],
                         &registers[3])) {
    return 0;
  }
  if (!(registers[wanted->cpuid_register] >> wanted->bit & 1)) return 0;
  return (saved_registers() & wanted->saved) == wanted->saved;
}

#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>

typedef struct feature {
  const char *name;
  unsigned long type;
  int bit;
} feature;

/* linux/arch/arm64/include/uapi/asm/hwcap.h; numbers, since older headers lack the names. */
static const feature features[] = {
    {"neon", AT_HWCAP, 1}, {"fullfp16", AT_HWCAP, 10}, {"dotprod", AT_HWCAP, 20},
    {"sve", AT_HWCAP, 22}, {"i8mm", AT_HWCAP2, 13},    {"bf16", AT_HWCAP2, 14},
};

static int is_here(const feature *wanted) { return getauxval(wanted->type) >> wanted->bit & 1; }

#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>

typedef struct feature {
  const char *name, *key;
} feature;

static const feature features[] = {
    {"neon", "hw.optional.arm.AdvSIMD"},         {"fullfp16", "hw.optional.arm.FEAT_FP16"},
    {"dotprod", "hw.optional.arm.FEAT_DotProd"}, {"i8mm", "hw.optional.arm.FEAT_I8MM"},
    {"bf16", "hw.optional.arm.FEAT_BF16"},
};

static int is_here(const feature *wanted) {
  int value = 0;
  size_t size = sizeof value;
  return sysctlbyname(wanted->key, &value, &size, NULL, 0) == 0 && value;
}

#else

typedef struct feature {
  const char *name;
} feature;

static const feature features[] = {{"nothing to ask for"}};

static int is_here(const feature *wanted) {
  (void)wanted;
  return 0;
}
#endif

static int has(const char *name, size_t length) {
  for (size_t i = 0; i < sizeof features / sizeof features[0]; i++) {
    const char *known = features[i].name;
    if (strlen(known) == length && memcmp(known, name, length) == 0) return is_here(&features[i]);
  }
  return 0;
}

int edgec_cpu_has(const char *names) {
  for (;;) {
    size_t length = 0;
    while (names[length] && names[length] != ',') length++;
    if (!has(names, length)) return 0;
    if (!names[length]) return 1;
    names += length + 1;
  }
}
