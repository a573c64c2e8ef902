/* A pool of threads that a kernel's items are split over. */
#ifndef EDGEC_THREADS_H
#define EDGEC_THREADS_H

#include "edgec/runtime.h"

#define EDGEC_MAX_THREADS 256

typedef struct edgec_pool edgec_pool;

/* `threads` includes the caller's, which takes part; `workspaces` holds one block of `stride` bytes
 * for each. For one thread nothing is started and `*out` is NULL. */
edgec_status edgec_pool_start(edgec_pool **out, int32_t threads, unsigned char *workspaces,
                              size_t stride, char *error);
void edgec_pool_stop(edgec_pool *self); /* NULL is fine */

/* Run `task` over items [0, items) in `chunks` ranges of nearly equal size; returns when all are
 * done. One caller at a time. 2 <= chunks <= items. */
void edgec_pool_run(edgec_pool *self, edgec_task task, const void *arguments, int32_t items,
                    int32_t chunks);

#endif
