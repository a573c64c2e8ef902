/* Features of the CPU, as /proc/cpuinfo has them: test_cpu FLAG=NAME... for those to compare. */
#include "edgec/runtime.h"
#include "expect.h"

static char flags[1 << 16];

static int listed(const char *flag) {
  char word[64];
  snprintf(word, sizeof word, " %s ", flag);
  return strstr(flags, word) != NULL;
}

static void load_flags(void) {
  FILE *file = fopen("/proc/cpuinfo", "r");
  EXPECT(file);
  size_t size = fread(flags, 1, sizeof flags - 1, file);
  fclose(file);
  for (size_t i = 0; i < size; i++) {
    if (flags[i] == '\n' || flags[i] == '\t') flags[i] = ' ';
  }
}

int main(int count, char **words) {
  load_flags();
  for (int i = 1; i < count; i++) {
    char *name = strchr(words[i], '=');
    EXPECT(name);
    *name++ = 0;
    printf("%s: %d\n", name, edgec_cpu_has(name));
    EXPECT(edgec_cpu_has(name) == listed(words[i]));
  }
  EXPECT(!edgec_cpu_has("") && !edgec_cpu_has("unheard_of") && !edgec_cpu_has(","));
  return 0;
}
