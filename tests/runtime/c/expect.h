/* A test program: a table of functions, run one after another; the first misfit ends it. */
#ifndef EDGEC_EXPECT_H
#define EDGEC_EXPECT_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPECT(condition)                                                     \
  do {                                                                        \
    if (!(condition)) {                                                       \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      exit(1);                                                                \
    }                                                                         \
  } while (0)

#define EXPECT_TEXT(text, part)                                                                \
  do {                                                                                         \
    if (!strstr((text), (part))) {                                                             \
      fprintf(stderr, "%s:%d: \"%s\" is not in \"%s\"\n", __FILE__, __LINE__, (part), (text)); \
      exit(1);                                                                                 \
    }                                                                                          \
  } while (0)

#define RUN(test)   \
  do {              \
    puts(#test);    \
    fflush(stdout); \
    test();         \
  } while (0)

#endif
