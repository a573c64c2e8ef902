/* The monotonic clock. */
#ifndef EDGEC_WITHOUT_LIBC
#define _POSIX_C_SOURCE 200809L
#include <time.h>
#endif

#include "platform.h"

uint64_t edgec_now_ns(void) {
#ifdef EDGEC_WITHOUT_LIBC
  return 0; /* a module without imports has no clock; the caller's has to do */
#else
  struct timespec now;
  if (clock_gettime(CLOCK_MONOTONIC, &now)) return 0;
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
#endif
}
