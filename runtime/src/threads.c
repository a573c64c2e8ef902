/* The thread pool.
 *
 * A job is open to whoever comes: the caller publishes it in one atomic word, takes part, and
 * closes it when no range is left. It then waits for those workers only that have joined, so a
 * worker that sleeps or is not scheduled costs nothing. Workers look for the next job for some
 * microseconds before they sleep: inside of a model call kernels follow each other at that
 * distance.
 *
 * The word `job`: bits 0..15 workers inside, bit 16 open, bits 17..63 number of the job. The job's
 * fields are written while the word is closed and nobody is inside, and read only by workers that
 * have joined by compare-and-swap, so no worker ever sees the fields of another job.
 */
#define _POSIX_C_SOURCE 200809L

#include "threads.h"

#include "errors.h"
#include "platform.h"

#ifdef EDGEC_WITHOUT_THREADS

edgec_status edgec_pool_start(edgec_pool **out, int32_t threads, unsigned char *workspaces,
                              size_t stride, char *error) {
  (void)workspaces, (void)stride;
  *out = NULL;
  if (threads == 1) return EDGEC_OK;
  return edgec_explain(error, EDGEC_NO_THREADS,
                       "[threads] got %d; need 1; this build has no threads", threads);
}

void edgec_pool_stop(edgec_pool *self) { (void)self; }

void edgec_pool_run(edgec_pool *self, edgec_task task, const void *arguments, int32_t items,
                    int32_t chunks) {
  (void)self, (void)task, (void)arguments, (void)items, (void)chunks;
}

#else

#include <pthread.h>

enum { SPIN_NS = 30000, STACK_BYTES = 1 << 20 };

#define OPEN ((uint64_t)1 << 16)
#define INSIDE (OPEN - 1)
#define ONE_JOB (OPEN << 1)

typedef struct worker {
  pthread_t thread;
  edgec_pool *pool;
  void *workspace;
} worker;

struct edgec_pool {
  _Alignas(EDGEC_ALIGNMENT) _Atomic uint64_t job;
  _Alignas(EDGEC_ALIGNMENT) _Atomic int32_t next_chunk;
  _Alignas(EDGEC_ALIGNMENT) _Atomic int32_t sleepers; /* workers that wait for `wake` */
  _Atomic int32_t caller_sleeps;                      /* ... the caller, for `done` */
  _Atomic int32_t stop;
  edgec_task task; /* the job's fields */
  const void *arguments;
  int32_t items, chunks;
  void *workspace; /* the caller's */
  pthread_mutex_t mutex;
  pthread_cond_t wake, done;
  int32_t n_workers;
  worker workers[]; /* those that run */
};

static inline void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb" ::: "memory"); /* `yield` does nothing on most cores */
#endif
}

/* Spin until `self->job & mask` is not `value`, for SPIN_NS at most; whether that came. */
static int spin_while(edgec_pool *self, uint64_t mask, uint64_t value) {
  uint64_t until = 0;
  do {
    for (int i = 0; i < 64; i++) {
      if ((atomic_load_explicit(&self->job, memory_order_acquire) & mask) != value) return 1;
      relax();
    }
    uint64_t now = edgec_now_ns();
    if (!until) until = now + SPIN_NS;
    if (now >= until) return 0;
  } while (!atomic_load_explicit(&self->stop, memory_order_relaxed));
  return 0;
}

static void take_chunks(edgec_pool *self, void *workspace) {
  for (;;) {
    int64_t chunk = atomic_fetch_add_explicit(&self->next_chunk, 1, memory_order_relaxed);
    if (chunk >= self->chunks) return;
    int32_t begin = (int32_t)(chunk * self->items / self->chunks);
    int32_t end = (int32_t)((chunk + 1) * self->items / self->chunks);
    self->task(self->arguments, begin, end, workspace);
  }
}

/* ---------------------------------------------------------------- workers */
static int is_new(uint64_t job, uint64_t seen) { return job & OPEN && job / ONE_JOB != seen; }

/* Sleep until there is a job that this worker has not seen, or the end. Both sides write first what
 * the other reads (sleepers, job) and read then, sequentially consistent: one of them notices. */
static void sleep_until_new(edgec_pool *self, uint64_t seen) {
  pthread_mutex_lock(&self->mutex);
  atomic_fetch_add(&self->sleepers, 1);
  while (!is_new(atomic_load(&self->job), seen) && !atomic_load(&self->stop)) {
    pthread_cond_wait(&self->wake, &self->mutex);
  }
  atomic_fetch_sub(&self->sleepers, 1);
  pthread_mutex_unlock(&self->mutex);
}

static void leave(edgec_pool *self) {
  uint64_t left = atomic_fetch_sub(&self->job, 1) - 1;
  if ((left & INSIDE) == 0 && atomic_load(&self->caller_sleeps)) {
    pthread_mutex_lock(&self->mutex);
    pthread_cond_signal(&self->done);
    pthread_mutex_unlock(&self->mutex);
  }
}

static void *work(void *argument) {
  worker *me = argument;
  edgec_pool *self = me->pool;
  uint64_t seen = 0;
  while (!atomic_load(&self->stop)) {
    uint64_t job = atomic_load(&self->job);
    if (!is_new(job, seen)) {
      if (!spin_while(self, ~INSIDE, job & ~INSIDE)) sleep_until_new(self, seen);
    } else if (atomic_compare_exchange_strong(&self->job, &job, job + 1)) {
      seen = job / ONE_JOB;
      take_chunks(self, me->workspace);
      leave(self);
    }
  }
  return NULL;
}

/* ---------------------------------------------------------------- the caller */
static void wait_until_left(edgec_pool *self) {
  uint64_t job = atomic_load(&self->job);
  while (job & INSIDE) {
    if (spin_while(self, INSIDE, job & INSIDE)) {
      job = atomic_load(&self->job);
      continue;
    }
    pthread_mutex_lock(&self->mutex);
    atomic_store(&self->caller_sleeps, 1);
    while (atomic_load(&self->job) & INSIDE) pthread_cond_wait(&self->done, &self->mutex);
    atomic_store(&self->caller_sleeps, 0);
    pthread_mutex_unlock(&self->mutex);
    return;
  }
}

void edgec_pool_run(edgec_pool *self, edgec_task task, const void *arguments, int32_t items,
                    int32_t chunks) {
  self->task = task;
  self->arguments = arguments;
  self->items = items;
  self->chunks = chunks;
  atomic_store_explicit(&self->next_chunk, 0, memory_order_relaxed);
  uint64_t number = atomic_load_explicit(&self->job, memory_order_relaxed) / ONE_JOB;
  atomic_store(&self->job, (number + 1) * ONE_JOB | OPEN);
  if (atomic_load(&self->sleepers)) {
    pthread_mutex_lock(&self->mutex);
    pthread_cond_broadcast(&self->wake);
    pthread_mutex_unlock(&self->mutex);
  }
  take_chunks(self, self->workspace);
  atomic_fetch_and(&self->job, ~OPEN);
  wait_until_left(self);
}

/* ---------------------------------------------------------------- start and stop */
static int start_workers(edgec_pool *self, int32_t count, unsigned char *workspaces,
                         size_t stride) {
  pthread_attr_t attributes;
  int failure = pthread_attr_init(&attributes);
  if (failure) return failure;
  pthread_attr_setstacksize(&attributes, STACK_BYTES);
  for (int32_t i = 0; i < count && !failure; i++) {
    worker *me = &self->workers[i];
    me->pool = self;
    me->workspace = workspaces + stride * (size_t)(i + 1);
    failure = pthread_create(&me->thread, &attributes, work, me);
    if (!failure) self->n_workers++;
  }
  pthread_attr_destroy(&attributes);
  return failure;
}

edgec_status edgec_pool_start(edgec_pool **out, int32_t threads, unsigned char *workspaces,
                              size_t stride, char *error) {
  *out = NULL;
  if (threads == 1) return EDGEC_OK;
  size_t count = (size_t)threads - 1;
  edgec_pool *self = edgec_reserve(sizeof(edgec_pool) + count * sizeof(worker));
  if (!self) return edgec_explain(error, EDGEC_OUT_OF_MEMORY, "[threads] no memory for a pool");
  self->workspace = workspaces;
  if (pthread_mutex_init(&self->mutex, NULL) || pthread_cond_init(&self->wake, NULL) ||
      pthread_cond_init(&self->done, NULL)) {
    edgec_release(self);
    return edgec_explain(error, EDGEC_NO_THREADS, "[threads] no mutex to be had");
  }
  int failure = start_workers(self, threads - 1, workspaces, stride);
  if (failure) {
    int32_t started = self->n_workers + 1;
    edgec_pool_stop(self);
    return edgec_explain(
        error, EDGEC_NO_THREADS,
        "[threads] got %d of %d; need all; ask for fewer (pthread_create: error %d)", started,
        threads, failure);
  }
  *out = self;
  return EDGEC_OK;
}

void edgec_pool_stop(edgec_pool *self) {
  if (!self) return;
  pthread_mutex_lock(&self->mutex);
  atomic_store(&self->stop, 1);
  pthread_cond_broadcast(&self->wake);
  pthread_mutex_unlock(&self->mutex);
  for (int32_t i = 0; i < self->n_workers; i++) pthread_join(self->workers[i].thread, NULL);
  pthread_cond_destroy(&self->done);
  pthread_cond_destroy(&self->wake);
  pthread_mutex_destroy(&self->mutex);
  edgec_release(self);
}
#endif
