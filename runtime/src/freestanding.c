/* The functions of <string.h> that compilers call by themselves, for WebAssembly without libc. The
 * builtins become single instructions (bulk memory), not calls of these functions. */
#include "platform.h"

#ifdef EDGEC_WITHOUT_LIBC

void *memcpy(void *restrict to, const void *restrict from, size_t bytes) {
  return __builtin_memmove(to, from, bytes);
}

void *memmove(void *to, const void *from, size_t bytes);
void *memmove(void *to, const void *from, size_t bytes) {
  return __builtin_memmove(to, from, bytes);
}

void *memset(void *to, int value, size_t bytes) { return __builtin_memset(to, value, bytes); }

int memcmp(const void *a, const void *b, size_t bytes) {
  const unsigned char *x = a, *y = b;
  for (size_t i = 0; i < bytes; i++) {
    if (x[i] != y[i]) return x[i] < y[i] ? -1 : 1;
  }
  return 0;
}

size_t strlen(const char *text) {
  size_t length = 0;
  while (text[length]) length++;
  return length;
}

int strcmp(const char *a, const char *b) {
  while (*a && *a == *b) a++, b++;
  return (unsigned char)*a - (unsigned char)*b;
}
#else
typedef int edgec_libc_is_used; /* an empty file is no C */
#endif
