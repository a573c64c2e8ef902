/* vsnprintf, or without libc the part of it that error texts use:
 * %s %c %d %i %u %x %% with l, ll and z. Any other conversion is printed as it stands, and ends the
 * text, since the type of its argument is not known. */
#ifndef EDGEC_WITHOUT_LIBC
#include <stdio.h>
#endif

#include "platform.h"

#if !defined(EDGEC_WITHOUT_LIBC) && !defined(EDGEC_TEST_FORMAT)

void edgec_format(char *text, size_t size, const char *format, va_list arguments) {
  if (vsnprintf(text, size, format, arguments) < 0) text[0] = 0;
}

#else

typedef struct output {
  char *next, *end; /* *end is for the zero */
} output;

static void put(output *self, char c) {
  if (self->next < self->end) *self->next++ = c;
}

static void put_text(output *self, const char *text) {
  if (!text) text = "(null)";
  while (*text) put(self, *text++);
}

static void put_number(output *self, unsigned long long value, unsigned base) {
  char digits[20];
  int count = 0;
  do {
    digits[count++] = "0123456789abcdef"[value % base];
    value /= base;
  } while (value);
  while (count) put(self, digits[--count]);
}

/* l: 1, ll: 2, z: 3 */
static int take_length(const char **format) {
  int longs = 0;
  if (**format == 'z') return (*format)++, 3;
  while (**format == 'l' && longs < 2) (*format)++, longs++;
  return longs;
}

static long long signed_argument(int length, va_list *arguments) {
  if (length == 3) return (long long)va_arg(*arguments, ptrdiff_t);
  if (length == 2) return va_arg(*arguments, long long);
  return length ? va_arg(*arguments, long) : va_arg(*arguments, int);
}

static unsigned long long unsigned_argument(int length, va_list *arguments) {
  if (length == 3) return va_arg(*arguments, size_t);
  if (length == 2) return va_arg(*arguments, unsigned long long);
  return length ? va_arg(*arguments, unsigned long) : va_arg(*arguments, unsigned);
}

/* One conversion behind its %; 0 where it is not known. */
static int put_conversion(output *self, const char **format, va_list *arguments) {
  int length = take_length(format);
  char kind = **format;
  if (kind) (*format)++;
  if (kind == 'd' || kind == 'i') {
    long long value = signed_argument(length, arguments);
    if (value < 0) put(self, '-');
    put_number(self, value < 0 ? 0ull - (unsigned long long)value : (unsigned long long)value, 10);
  } else if (kind == 'u' || kind == 'x') {
    put_number(self, unsigned_argument(length, arguments), kind == 'u' ? 10 : 16);
  } else if (kind == 's' && length == 0) {
    put_text(self, va_arg(*arguments, const char *));
  } else if (kind == 'c' && length == 0) {
    put(self, (char)va_arg(*arguments, int));
  } else if (kind == '%' && length == 0) {
    put(self, '%');
  } else {
    return 0;
  }
  return 1;
}

void edgec_format(char *text, size_t size, const char *format, va_list given) {
  output out = {text, text + size - 1};
  va_list arguments;
  va_copy(arguments, given); /* an array on some machines, whose address has another type */
  while (*format) {
    if (*format != '%') {
      put(&out, *format++);
      continue;
    }
    const char *from = format++;
    if (!put_conversion(&out, &format, &arguments)) {
      put_text(&out, from);
      break;
    }
  }
  va_end(arguments);
  *out.next = 0;
}
#endif
