/* Entry points of a compiled network, and the threads that its kernels run on.
 *
 * TVM's code calls the function behind __TVMBackendParallelLaunch for each parallel loop; inside a
 * TVM runtime the loader fills that slot, elsewhere the constructor below does. A launch has one
 * task per thread, and task i belongs to worker i, whose cache knows its part of the data. Workers
 * wait by spinning for a short while, since the next layer usually follows at once, and then sleep.
 * A task whose worker has not come by the time the caller is done with its own, the caller takes: on
 * a busy machine a network is never slower than on one thread by much. Nothing is allocated while a
 * network runs.
 *
 * Several threads may run the network at once. The workers serve one loop at a time; a caller that
 * finds them busy runs its loop alone. A forked child has none until it sets the number of threads.
 *
 * All that depends on the network stands in macros of the command line (header.py), and none of them
 * changes from a network to another of as many inputs and outputs, and about as much stack: such
 * networks share the object.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

int32_t GMPQ_STEPS_FUNCTION(GMPQ_PARAMETERS);

enum { MOST_THREADS = 256, SPINS = 20000 };
enum { STACK_BYTES = GMPQ_THREAD_STACK_BYTES + (64 << 10) }; /* musl's threads have 128 KiB, kernels more */

typedef struct {
  void *sync;
  int32_t num_task;
} Group; /* TVMParallelGroupEnv */
typedef int (*Task)(int task_id, Group *group, void *data);

extern void *__TVMBackendParallelLaunch __attribute__((weak));

#if defined(__ARM_EABI__)
/* Kernels name these handlers of C++ exceptions, which never pass through them: without these two
 * the library would need the unwinder of the compiler that linked it. */
void __aeabi_unwind_cpp_pr0(void) {}
void __aeabi_unwind_cpp_pr1(void) {}
#endif

static struct {
  pthread_t workers[MOST_THREADS];
  pthread_mutex_t busy; /* held while the workers run a loop, or their number changes */
  pthread_mutex_t mutex;
  pthread_cond_t wake;
  atomic_int threads; /* including the caller's */
  atomic_int process; /* that the workers belong to */
  atomic_int heir;    /* a forked child in which a thread starts anew */
  atomic_int stop;
  Task task;
  void *data;
  atomic_uint launch;                /* number of the newest launch */
  atomic_uint waiting[MOST_THREADS]; /* the launch whose task i nobody has taken yet, or 0 */
  atomic_int finished;               /* tasks of the newest launch */
  atomic_int failed;
} pool = {.busy = PTHREAD_MUTEX_INITIALIZER,
          .mutex = PTHREAD_MUTEX_INITIALIZER,
          .wake = PTHREAD_COND_INITIALIZER,
          .threads = 1};

static void relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
  __asm__ volatile("yield");
#endif
}

/* Waits for a launch after `seen` and returns the newest. */
static unsigned next_launch(unsigned seen) {
  unsigned newest;
  for (int i = 0; i < SPINS; i++) {
    newest = atomic_load_explicit(&pool.launch, memory_order_acquire);
    if (newest != seen) return newest;
    relax();
  }
  pthread_mutex_lock(&pool.mutex);
  while ((newest = atomic_load(&pool.launch)) == seen) pthread_cond_wait(&pool.wake, &pool.mutex);
  pthread_mutex_unlock(&pool.mutex);
  return newest;
}

/* Runs task `id` of `launch` unless somebody has taken it. */
static void take(int id, unsigned launch) {
  if (!atomic_compare_exchange_strong(&pool.waiting[id], &launch, 0)) return;
  Group group = {NULL, pool.threads};
  if (pool.task(id, &group, pool.data)) atomic_store(&pool.failed, 1);
  atomic_fetch_add_explicit(&pool.finished, 1, memory_order_release);
}

typedef struct {
  int id;
  unsigned seen;
} Start;
static Start starts[MOST_THREADS];

static void *work(void *argument) {
  const Start *start = argument;
  unsigned seen = start->seen;
  for (;;) {
    seen = next_launch(seen);
    if (pool.stop) return NULL;
    take(start->id, seen);
  }
}

static unsigned announce(unsigned launch) {
  pthread_mutex_lock(&pool.mutex);
  atomic_store_explicit(&pool.launch, launch, memory_order_release);
  pthread_cond_broadcast(&pool.wake);
  pthread_mutex_unlock(&pool.mutex);
  return launch;
}

static unsigned next_number(void) {
  unsigned number = atomic_load(&pool.launch) + 1;
  return number ? number : 1; /* 0 marks tasks that are taken */
}

/* Runs a loop on the workers and the calling thread, which holds `busy`. */
static int share(Task task, void *data) {
  int threads = pool.threads;
  Group group = {NULL, threads};
  unsigned launch = next_number();
  pool.task = task;
  pool.data = data;
  atomic_store(&pool.finished, 0);
  for (int i = 1; i < threads; i++)
    atomic_store_explicit(&pool.waiting[i], launch, memory_order_release);
  announce(launch);
  int failed = task(0, &group, data);
  for (int i = 1; i < threads; i++) take(i, launch);
  for (int i = 0; atomic_load_explicit(&pool.finished, memory_order_acquire) < threads - 1; i++)
    i < SPINS ? relax() : (void)sched_yield();
  return failed | atomic_exchange(&pool.failed, 0);
}

static int parallel(Task task, void *data, int tasks) {
  (void)tasks; /* kernels divide their loop by the group's num_task */
  int threads = atomic_load_explicit(&pool.threads, memory_order_relaxed);
  if (threads > 1 && !pthread_mutex_trylock(&pool.busy)) {
    int failed = share(task, data);
    pthread_mutex_unlock(&pool.busy);
    return failed;
  }
  Group alone = {NULL, 1};
  return task(0, &alone, data);
}

static void join_workers(void) {
  if (pool.threads == 1) return;
  pool.stop = 1;
  announce(next_number());
  for (int i = 1; i < pool.threads; i++) pthread_join(pool.workers[i], NULL);
  pool.stop = 0;
  pool.threads = 1;
}

static int start_worker(int id) {
  pthread_attr_t attributes;
  size_t bytes;
  starts[id] = (Start){id, atomic_load(&pool.launch)};
  if (pthread_attr_init(&attributes)) return -1;
  int failed = pthread_attr_getstacksize(&attributes, &bytes);
  if (!failed && bytes < STACK_BYTES) failed = pthread_attr_setstacksize(&attributes, STACK_BYTES);
  if (!failed) failed = pthread_create(&pool.workers[id], &attributes, work, &starts[id]);
  pthread_attr_destroy(&attributes);
  return failed;
}

/* A forked child has the thread that forked alone: no workers, and nobody who unlocks what they held.
 * One of its threads notices and starts anew. A handler of pthread_atfork would outlive the library,
 * unless the linker's start files unregister it, as those of some do not. */
static void start_anew(void) {
  int here = getpid(), heir = atomic_load(&pool.heir);
  if (atomic_load(&pool.process) == here) return;
  if (heir != here && atomic_compare_exchange_strong(&pool.heir, &heir, here)) {
    pool.busy = pool.mutex = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    pool.wake = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
    pool.stop = 0;
    pool.failed = 0;
    pool.threads = 1;
    atomic_store(&pool.process, here);
  }
  while (atomic_load(&pool.process) != here) sched_yield();
}

/* Changes the number of threads for the caller, who holds `busy`. */
static int resize(int threads) {
  if (threads == pool.threads) return 0;
  join_workers();
  for (int i = 1; i < threads; i++) {
    if (start_worker(i)) {
      join_workers();
      return -1;
    }
    pool.threads = i + 1;
  }
  return 0;
}

int ENTRY(set_threads)(int threads) {
  if (threads < 1 || threads > MOST_THREADS) return -1;
  start_anew();
  pthread_mutex_lock(&pool.busy);
  int failed = resize(threads);
  pthread_mutex_unlock(&pool.busy);
  return failed;
}

#ifdef GMPQ_AMX
#include <sys/syscall.h>
enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 }; /* Linux, Documentation/arch/x86/xstate.rst */
static int allow(void) { return (int)syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA); }
#else
static int allow(void) { return 0; }
#endif

static int not_allowed;

__attribute__((constructor)) static void prepare(void) {
  if (&__TVMBackendParallelLaunch && !__TVMBackendParallelLaunch)
    __TVMBackendParallelLaunch = (void *)parallel;
  pool.process = getpid();
  not_allowed = allow();
}

/* The library is unloaded, or the process ends: then perhaps while another thread runs a loop. */
__attribute__((destructor)) static void finish(void) {
  start_anew();
  if (pthread_mutex_trylock(&pool.busy)) return;
  join_workers();
  pthread_mutex_unlock(&pool.busy);
}

int ENTRY(run_steps)(const void *params, void *workspace, const float *const *inputs,
                     float *const *outputs, int first, int last) {
  if (not_allowed) return not_allowed;
  if (atomic_load_explicit(&pool.threads, memory_order_relaxed) > 1) start_anew();
  return GMPQ_STEPS_FUNCTION(GMPQ_ARGUMENTS);
}

int ENTRY(run)(const void *params, void *workspace, const float *const *inputs,
               float *const *outputs) {
  return ENTRY(run_steps)(params, workspace, inputs, outputs, 0, INT32_MAX);
}
