/* A file mapped read-only: pages are shared by all instances and processes, and come when used. */
#ifndef EDGEC_FILE_H
#define EDGEC_FILE_H

#include "edgec/runtime.h"

typedef struct edgec_file {
  const void *bytes; /* NULL: not mapped */
  uint64_t size;
} edgec_file;

edgec_status edgec_file_map(edgec_file *self, const char *path, char *error);
void edgec_file_unmap(edgec_file *self);

#endif
