/* Aligned, zeroed memory: calloc's, or in freestanding WebAssembly a stack above static data. */
#include "edgec/runtime.h"
#include "platform.h"

#ifndef EDGEC_WITHOUT_LIBC
#include <stdlib.h>

/* calloc, since large blocks are then zero pages that take no memory before they are used. The
 * pointer that it gave lies right before the block. */
void *edgec_reserve(uint64_t bytes) {
  const size_t extra = EDGEC_ALIGNMENT + sizeof(void *);
  if (bytes > SIZE_MAX - extra) return NULL;
  unsigned char *from = calloc(1, (size_t)bytes + extra);
  if (!from) return NULL;
  uintptr_t first = (uintptr_t)from + sizeof(void *);
  size_t padding = (EDGEC_ALIGNMENT - first % EDGEC_ALIGNMENT) % EDGEC_ALIGNMENT;
  unsigned char *block = from + sizeof(void *) + padding;
  memcpy(block - sizeof(void *), &from, sizeof from);
  return block;
}

void edgec_release(void *block) {
  if (!block) return;
  void *from;
  memcpy(&from, (unsigned char *)block - sizeof(void *), sizeof from);
  free(from);
}

#else

/* A block is behind a header of 64 bytes. Blocks are given back from the top: one that is released
 * below others waits for them, so that instances destroyed in any order leave nothing. */
typedef struct stack_block {
  struct stack_block *below;
  int32_t released;
  char padding[EDGEC_ALIGNMENT - sizeof(void *) - sizeof(int32_t)];
} stack_block;

_Static_assert(sizeof(stack_block) == EDGEC_ALIGNMENT, "blocks follow their headers");

extern unsigned char __heap_base; /* the linker's end of static data and of the C stack */
static stack_block *top;
static uintptr_t top_end;

enum { PAGE_BYTES = 65536 };

static int grow_to(uint64_t end) {
  uint64_t have = (uint64_t)__builtin_wasm_memory_size(0) * PAGE_BYTES;
  if (end <= have) return 1;
  uint64_t pages = (end - have + PAGE_BYTES - 1) / PAGE_BYTES;
  return pages < PAGE_BYTES && __builtin_wasm_memory_grow(0, (size_t)pages) != (size_t)-1;
}

void *edgec_reserve(uint64_t bytes) {
  const uint64_t mask = EDGEC_ALIGNMENT - 1;
  uint64_t start = ((top ? top_end : (uintptr_t)&__heap_base) + mask) & ~mask;
  if (bytes > UINT32_MAX) return NULL;
  uint64_t end = start + sizeof(stack_block) + bytes;
  if (end > UINT32_MAX || !grow_to(end)) return NULL;
  stack_block *block = (stack_block *)(uintptr_t)start;
  memset(block, 0, sizeof(stack_block) + (size_t)bytes);
  block->below = top;
  top = block;
  top_end = (uintptr_t)end;
  return block + 1;
}

void edgec_release(void *memory) {
  if (!memory) return;
  ((stack_block *)memory - 1)->released = 1;
  while (top && top->released) {
    top_end = (uintptr_t)top;
    top = top->below;
  }
}
#endif
