/* The formatter for machines without libc against vsnprintf. Compiled with EDGEC_TEST_FORMAT. */
#include <limits.h>
#include <stdarg.h>

#include "errors.h"
#include "expect.h"
#include "platform.h"

static void same_as_libc(size_t size, const char *format, ...) {
  char got[128], want[128];
  va_list arguments, again;
  va_start(arguments, format);
  va_copy(again, arguments);
  edgec_format(got, size, format, arguments);
  vsnprintf(want, size, format, again);
  va_end(again);
  va_end(arguments);
  if (strcmp(got, want)) fprintf(stderr, "\"%s\" for \"%s\"\n", got, want);
  EXPECT(!strcmp(got, want));
}

static void formats_like_libc(void) {
  same_as_libc(128, "%d %d %d %i", 0, INT_MIN, INT_MAX, -1);
  same_as_libc(128, "%u %x %x", UINT_MAX, 0u, 0xdeadbeefu);
  same_as_libc(128, "%ld %lu", LONG_MIN, ULONG_MAX);
  same_as_libc(128, "%lld %llu %llx", LLONG_MIN, ULLONG_MAX, ULLONG_MAX);
  same_as_libc(128, "%zu|%s|%c|%%|%s", SIZE_MAX, "text", 'c', "");
  same_as_libc(128, "nothing to convert");
  same_as_libc(128, "%s", "");
}

static void cuts_what_does_not_fit(void) {
  for (size_t size = 1; size < 24; size++) same_as_libc(size, "[%s] got %d", "where", 123456);
}

static void stops_at_what_it_does_not_know(void) {
  char text[EDGEC_ERROR_BYTES];
  EXPECT(edgec_explain(text, EDGEC_BUSY, "a %d %g %s", 1, 2.5, "never read") == EDGEC_BUSY);
  EXPECT(!strcmp(text, "a 1 %g %s"));
  EXPECT(edgec_explain(NULL, EDGEC_BUSY, "no place for a text") == EDGEC_BUSY);
}

int main(void) {
  RUN(formats_like_libc);
  RUN(cuts_what_does_not_fit);
  RUN(stops_at_what_it_does_not_know);
  return 0;
}
