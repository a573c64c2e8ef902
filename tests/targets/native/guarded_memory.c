/* edgec_reserve whose blocks end where a page without access begins: a step too far is fatal. */
#define _GNU_SOURCE
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

enum { PAGE = 4096 };

typedef struct block {
  void *start;
  size_t bytes;
} block;

void *edgec_reserve(uint64_t bytes) {
  size_t used = (size_t)((bytes + 63) / 64 * 64);
  size_t room = (used + sizeof(block) + 64 + PAGE - 1) / PAGE * PAGE;
  unsigned char *start =
      mmap(NULL, room + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (start == MAP_FAILED || mprotect(start + room, PAGE, PROT_NONE)) return NULL;
  block own = {start, room + PAGE};
  unsigned char *made = start + room - used;
  memcpy(made - sizeof own, &own, sizeof own);
  return made;
}

void edgec_release(void *made) {
  if (!made) return;
  block own;
  memcpy(&own, (unsigned char *)made - sizeof own, sizeof own);
  munmap(own.start, own.bytes);
}
