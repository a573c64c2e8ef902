/* replay FILE...: what a fuzzer does with the files of its corpus, without one. */
#include <stdint.h>

#include "expect.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int count, char **words) {
  static unsigned char bytes[1 << 20];
  for (int i = 1; i < count; i++) {
    FILE *file = fopen(words[i], "rb");
    EXPECT(file);
    size_t size = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    LLVMFuzzerTestOneInput(bytes, size);
  }
  printf("%d files\n", count - 1);
  return 0;
}
