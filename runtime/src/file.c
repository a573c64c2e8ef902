/* Mapping of whole files. */
#define _POSIX_C_SOURCE 200809L

#include "file.h"

#include "errors.h"
#include "platform.h"

#ifdef EDGEC_WITHOUT_FILES

edgec_status edgec_file_map(edgec_file *self, const char *path, char *error) {
  (void)self;
  return edgec_explain(error, EDGEC_CANNOT_OPEN,
                       "[%s] got a path; this build has no files; pass options.weights",
                       edgec_shown_path(path));
}

void edgec_file_unmap(edgec_file *self) { (void)self; }

#else

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static edgec_status cannot(const char *path, const char *what, char *error) {
  char reason[96] = "unknown error";
#if defined(__GLIBC__) && defined(_GNU_SOURCE)
#error "strerror_r is GNU's with _GNU_SOURCE"
#endif
  (void)!strerror_r(errno, reason, sizeof reason);
  return edgec_explain(error, EDGEC_CANNOT_OPEN, "[%s] cannot %s: %s", edgec_shown_path(path), what,
                       reason);
}

static edgec_status map(edgec_file *self, int descriptor, const char *path, char *error) {
  struct stat about;
  if (fstat(descriptor, &about)) return cannot(path, "read its size", error);
  if (!S_ISREG(about.st_mode)) {
    return edgec_explain(error, EDGEC_CANNOT_OPEN, "[%s] got no regular file; need a file",
                         edgec_shown_path(path));
  }
  if (about.st_size == 0) { /* nothing can be mapped */
    return edgec_explain(error, EDGEC_TRUNCATED, "[%s] got an empty file", edgec_shown_path(path));
  }
  uint64_t size = (uint64_t)about.st_size;
  if (size > SIZE_MAX) {
    return edgec_explain(error, EDGEC_OUT_OF_MEMORY, "[%s] does not fit into memory",
                         edgec_shown_path(path));
  }
  void *bytes = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, descriptor, 0);
  if (bytes == MAP_FAILED) return cannot(path, "map it", error);
  self->bytes = bytes;
  self->size = size;
  return EDGEC_OK;
}

edgec_status edgec_file_map(edgec_file *self, const char *path, char *error) {
  self->bytes = NULL;
  self->size = 0;
  /* Not blocking: opening a pipe without a writer would wait for ever. */
  int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) return cannot(path, "open it", error);
  edgec_status status = map(self, descriptor, path, error);
  close(descriptor); /* the mapping stays */
  return status;
}

void edgec_file_unmap(edgec_file *self) {
  if (self->bytes) munmap((void *)(uintptr_t)self->bytes, (size_t)self->size);
  self->bytes = NULL;
}
#endif
