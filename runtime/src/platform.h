/* What the library takes from its surroundings, and what it does without.
 *
 *   EDGEC_WITHOUT_LIBC     freestanding WebAssembly: no headers but the compiler's own, no clock,
 *                          memory by memory.grow. Implies the other two.
 *   EDGEC_WITHOUT_THREADS  no pthreads: options.threads is at most 1
 *   EDGEC_WITHOUT_FILES    no mmap: weights come by options.weights
 */
#ifndef EDGEC_PLATFORM_H
#define EDGEC_PLATFORM_H

#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "weights are little-endian and used where they lie: no big-endian machines"
#endif

#ifdef EDGEC_WITHOUT_LIBC
#ifndef EDGEC_WITHOUT_THREADS
#define EDGEC_WITHOUT_THREADS
#endif
#ifndef EDGEC_WITHOUT_FILES
#define EDGEC_WITHOUT_FILES
#endif
void *memcpy(void *restrict to, const void *restrict from, size_t bytes);
void *memset(void *to, int value, size_t bytes);
int memcmp(const void *a, const void *b, size_t bytes);
size_t strlen(const char *text);
int strcmp(const char *a, const char *b);
#else
#include <string.h>
#endif

/* Monotonic clock; 0 where there is none. */
uint64_t edgec_now_ns(void);

/* vsnprintf's result in `text`, cut to `size`; see format.c for what it knows without libc. */
void edgec_format(char *text, size_t size, const char *format, va_list arguments);

#endif
