/* The thread pool: every item once, ranges of the size that was asked for, a workspace for each
 * thread, jobs close together and far apart. */
#define _POSIX_C_SOURCE 200809L
#include <stdatomic.h>
#include <time.h>

#include "expect.h"
#include "threads.h"

enum { MOST_ITEMS = 300, STRIDE = 64 };

typedef struct job {
  int32_t *seen; /* for each item; only the thread that has it writes */
  int32_t least; /* size of a range */
} job;

/* The first word of a workspace is taken while a range is worked on. */
static void mark(const void *arguments, int32_t begin, int32_t end, void *workspace) {
  const job *self = arguments;
  atomic_int *taken = workspace;
  EXPECT(atomic_exchange(taken, 1) == 0);
  EXPECT(begin < end && end - begin >= self->least);
  for (int32_t i = begin; i < end; i++) self->seen[i]++;
  atomic_store(taken, 0);
}

static void run_once(edgec_pool *pool, int32_t items, int32_t chunks) {
  int32_t seen[MOST_ITEMS] = {0};
  job this = {seen, items / chunks};
  edgec_pool_run(pool, mark, &this, items, chunks);
  for (int32_t i = 0; i < MOST_ITEMS; i++) EXPECT(seen[i] == (i < items));
}

static edgec_pool *start(int32_t threads, unsigned char *workspaces) {
  edgec_pool *pool;
  char error[EDGEC_ERROR_BYTES];
  memset(workspaces, 0, (size_t)threads * STRIDE);
  EXPECT(edgec_pool_start(&pool, threads, workspaces, STRIDE, error) == EDGEC_OK);
  EXPECT((pool != NULL) == (threads > 1));
  return pool;
}

static _Alignas(64) unsigned char workspaces[8 * STRIDE];

static void sleep_us(long microseconds) {
  struct timespec time = {0, microseconds * 1000};
  nanosleep(&time, NULL);
}

static void runs_every_item_once(void) {
  for (int32_t threads = 2; threads <= 5; threads++) {
    edgec_pool *pool = start(threads, workspaces);
    for (int32_t items = 2; items < MOST_ITEMS; items += 7) {
      for (int32_t chunks = 2; chunks <= items && chunks < 24; chunks += 3) {
        run_once(pool, items, chunks);
      }
    }
    edgec_pool_stop(pool);
  }
}

typedef struct meeting {
  atomic_int inside;
  void *workspaces[3];
} meeting;

/* Each range waits until all are worked on: by three threads. */
static void meet(const void *arguments, int32_t begin, int32_t end, void *workspace) {
  meeting *self = (meeting *)(uintptr_t)arguments;
  EXPECT(end == begin + 1);
  self->workspaces[begin] = workspace;
  atomic_fetch_add(&self->inside, 1);
  while (atomic_load(&self->inside) < 3) sleep_us(10);
}

static void gives_each_thread_a_workspace(void) {
  edgec_pool *pool = start(3, workspaces);
  meeting this = {0};
  edgec_pool_run(pool, meet, &this, 3, 3);
  for (int i = 0; i < 3; i++) {
    size_t offset = (size_t)((unsigned char *)this.workspaces[i] - workspaces);
    EXPECT(offset % STRIDE == 0 && offset < 3 * STRIDE);
    EXPECT(this.workspaces[i] != this.workspaces[(i + 1) % 3]);
  }
  edgec_pool_stop(pool);
}

/* Around the time after which workers and the caller go to sleep. */
static void wakes_after_pauses(void) {
  edgec_pool *pool = start(4, workspaces);
  for (int i = 0; i < 300; i++) {
    sleep_us(i % 100);
    run_once(pool, 64, 16);
  }
  edgec_pool_stop(pool);
}

static void slow(const void *arguments, int32_t begin, int32_t end, void *workspace) {
  (void)workspace;
  sleep_us(begin % 2 ? 500 : 0);
  for (int32_t i = begin; i < end; i++) atomic_fetch_add((atomic_int *)(uintptr_t)arguments, 1);
}

static void waits_for_slow_workers(void) {
  edgec_pool *pool = start(3, workspaces);
  for (int i = 0; i < 50; i++) {
    atomic_int done = 0;
    edgec_pool_run(pool, slow, &done, 6, 6);
    EXPECT(atomic_load(&done) == 6);
  }
  edgec_pool_stop(pool);
}

static void stops_at_any_time(void) {
  for (int i = 0; i < 50; i++) {
    edgec_pool *pool = start(3, workspaces);
    if (i % 2) run_once(pool, 10, 5);
    if (i % 5 == 0) sleep_us(200);
    edgec_pool_stop(pool);
  }
  edgec_pool_stop(NULL);
  edgec_pool_stop(start(1, workspaces));
}

int main(void) {
  RUN(runs_every_item_once);
  RUN(gives_each_thread_a_workspace);
  RUN(wakes_after_pauses);
  RUN(waits_for_slow_workers);
  RUN(stops_at_any_time);
  return 0;
}
