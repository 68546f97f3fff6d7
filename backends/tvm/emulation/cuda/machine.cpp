/* The fibers of a block, their barriers and collectives, and what ends a launch: see machine.h. */
#include "machine.h"

#include <algorithm>
#include <csetjmp>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <vector>

/* Saves the registers that a callee keeps in the stack of `save`, and goes on in the stack `to`. */
extern "C" __attribute__((visibility("hidden"))) void emulated_switch(void **save, void *to);
asm(".text\n.hidden emulated_switch\n.globl emulated_switch\n.type emulated_switch,@function\n"
    "emulated_switch:\n"
    "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
    "movq %rsp,(%rdi)\nmovq %rsi,%rsp\n"
    "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n");

namespace emulated {

enum {
  STACK = 64 << 10,
  PAGE = 4096,
  STRIDE = STACK + PAGE,
  POISON = 0xA5,
  SIGNAL_STACK = 64 << 10
};
static const size_t STACKS_BYTES = static_cast<size_t>(STRIDE) * MOST_THREADS;
enum State { RUNNING, AT_BARRIER, IN_COLLECTIVE, ENDED };

struct Copy {
  void *to;
  const void *from;
  size_t bytes, group;
};
struct Fiber {
  void *stack_pointer;
  State state;
  Collective what;
  void *operands;
  std::vector<Copy> copies; /* that wait for their bytes */
  size_t groups;            /* that were committed */
};

Settings settings = {std::getenv("GMPQ_LATE_COPIES") != nullptr,
                     std::getenv("GMPQ_BACKWARDS") != nullptr};
Index thread_index, block_index, block_size, grid_size;
char message[512];

static Fiber fibers[MOST_THREADS];
static char *stacks;      /* for all fibers; each has a page below it that nothing may touch */
static int usable_stacks; /* that fibers have needed so far */
static void *machine_stack_pointer;
static int current = -1, first_lane = -1, threads;
static const Kernel *running;
static void *const *arguments;
static sigjmp_buf launch_end;
static thread_local bool launching; /* a fault of another thread is not the kernel's */

static int place(char *text, size_t size) {
  int used = std::snprintf(text, size, "kernel %s, block (%u, %u, %u)", running->name,
                           block_index.x, block_index.y, block_index.z);
  if (current >= 0) return used + std::snprintf(text + used, size - used, ", thread %d", current);
  if (first_lane >= 0)
    used += std::snprintf(text + used, size - used, ", warp %d", first_lane / LANES);
  return used;
}

void fail(Mistake mistake, const char *format, ...) {
  int used = place(message, sizeof message);
  used += std::snprintf(message + used, sizeof message - used, ": ");
  va_list values;
  va_start(values, format);
  std::vsnprintf(message + used, sizeof message - used, format, values);
  va_end(values);
  siglongjmp(launch_end, mistake); /* the stacks of the fibers hold nothing that needs an end */
}

/* What fibers do. */
static void leave(State state) {
  Fiber &fiber = fibers[current];
  fiber.state = state;
  emulated_switch(&fiber.stack_pointer, machine_stack_pointer);
}

static void begin_thread() {
  running->call(arguments);
  leave(ENDED);
  __builtin_unreachable();
}

void meet(Collective what, void *operands) {
  fibers[current].what = what;
  fibers[current].operands = operands;
  leave(IN_COLLECTIVE);
}

void reach_barrier() { leave(AT_BARRIER); }

static bool is_shared(const void *pointer, size_t bytes) {
  return pointer >= program.shared &&
         static_cast<const char *>(pointer) + bytes <= program.shared_end;
}

void need_shared(const void *pointer, const char *instruction) {
  if (reinterpret_cast<uintptr_t>(pointer) % 16)
    fail(MISALIGNED_ADDRESS, "%s of an address that is not aligned to 16 bytes", instruction);
  if (!is_shared(pointer, 16))
    fail(ILLEGAL_ADDRESS, "%s of an address outside of shared memory", instruction);
}

void copy_async(void *to, const void *from, size_t bytes, size_t alignment) {
  if (reinterpret_cast<uintptr_t>(to) % alignment || reinterpret_cast<uintptr_t>(from) % alignment)
    fail(MISALIGNED_ADDRESS, "cp.async of addresses that are not aligned to %zu bytes", alignment);
  if (!is_shared(to, bytes))
    fail(ILLEGAL_ADDRESS, "cp.async to an address outside of shared memory");
  if (is_shared(from, bytes)) fail(ILLEGAL_ADDRESS, "cp.async from shared memory");
  Fiber &fiber = fibers[current];
  if (settings.late_copies)
    fiber.copies.push_back({to, from, bytes, fiber.groups});
  else
    std::memcpy(to, from, bytes);
}

void commit_copies() { fibers[current].groups++; }

void wait_for_copies(size_t groups_left) {
  Fiber &fiber = fibers[current];
  auto copy = fiber.copies.begin();
  for (; copy != fiber.copies.end() && copy->group + groups_left < fiber.groups; ++copy)
    std::memcpy(copy->to, copy->from, copy->bytes);
  fiber.copies.erase(fiber.copies.begin(), copy);
}

/* The block. */
static void prepare(int thread) {
  Fiber &fiber = fibers[thread];
  void **top = reinterpret_cast<void **>(stacks + static_cast<size_t>(thread + 1) * STRIDE - 64);
  *top = reinterpret_cast<void *>(begin_thread); /* the stack is aligned as after a call */
  for (int i = 0; i < 6; i++) *--top = nullptr;  /* the registers */
  fiber.stack_pointer = top;
  fiber.state = RUNNING;
  fiber.copies.clear();
  fiber.groups = 0;
}

static void resume(int thread) {
  current = thread;
  thread_index = {thread % block_size.x, thread / block_size.x % block_size.y,
                  thread / (block_size.x * block_size.y)};
  emulated_switch(&machine_stack_pointer, fibers[thread].stack_pointer);
  current = -1;
}

/* Performs the collective in which lanes wait; returns whether there is one. */
static bool perform_collective(int lanes) {
  void *operands[LANES];
  Collective what = nullptr;
  int waiting = 0;
  for (int i = 0; i < lanes; i++) {
    Fiber &fiber = fibers[first_lane + i];
    if (fiber.state != IN_COLLECTIVE) continue;
    if (what && fiber.what != what) fail(LAUNCH_FAILED, "lanes meet in different collectives");
    what = fiber.what;
    operands[waiting++] = fiber.operands;
  }
  if (!waiting) return false;
  if (waiting != LANES)
    fail(LAUNCH_FAILED, "%d of %d lanes reach a collective", waiting, int(LANES));
  what(operands);
  for (int i = 0; i < LANES; i++) fibers[first_lane + i].state = RUNNING;
  return true;
}

/* Runs a warp until each of its lanes waits at a barrier or has ended. */
static void run_warp(int warp) {
  first_lane = warp * LANES;
  int lanes = std::min<int>(LANES, threads - first_lane);
  do {
    for (int i = 0; i < lanes; i++) {
      int thread = first_lane + (settings.backwards ? lanes - 1 - i : i);
      if (fibers[thread].state == RUNNING) resume(thread);
    }
  } while (perform_collective(lanes));
}

static void run_block() {
  int warps = (threads + LANES - 1) / LANES;
  std::memset(program.shared, POISON, program.shared_end - program.shared);
  for (int thread = 0; thread < threads; thread++) prepare(thread);
  for (;;) {
    for (int i = 0; i < warps; i++) run_warp(settings.backwards ? warps - 1 - i : i);
    first_lane = -1;
    int ended = 0;
    for (int thread = 0; thread < threads; thread++) ended += fibers[thread].state == ENDED;
    if (ended == threads) return;
    if (ended) fail(LAUNCH_FAILED, "%d of %d threads reach a barrier", threads - ended, threads);
    for (int thread = 0; thread < threads; thread++) fibers[thread].state = RUNNING;
  }
}

static void run_grid() {
  for (block_index.z = 0; block_index.z < grid_size.z; block_index.z++)
    for (block_index.y = 0; block_index.y < grid_size.y; block_index.y++)
      for (block_index.x = 0; block_index.x < grid_size.x; block_index.x++) run_block();
}

/* The launch. */
static void fault(int signal_number, siginfo_t *found, void *) {
  if (!launching) {
    std::signal(signal_number, SIG_DFL); /* it comes again */
    return;
  }
  const char *address = static_cast<const char *>(found->si_addr);
  size_t offset = static_cast<size_t>(address - stacks);
  char text[128];
  if (stacks <= address && offset < STACKS_BYTES)
    std::snprintf(text, sizeof text, "more than %d bytes of local memory", int(STACK));
  else
    describe(address, text, sizeof text);
  fail(ILLEGAL_ADDRESS, "%s", text);
}

static bool make_stacks(int count) {
  if (!stacks) {
    void *made =
        mmap(nullptr, STACKS_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (made == MAP_FAILED) return false;
    stacks = static_cast<char *>(made);
  }
  for (; usable_stacks < count; usable_stacks++) {
    char *stack = stacks + static_cast<size_t>(usable_stacks) * STRIDE + PAGE;
    if (mprotect(stack, STACK, PROT_READ | PROT_WRITE)) return false;
  }
  return true;
}

__attribute__((destructor)) static void free_stacks() {
  if (stacks) munmap(stacks, STACKS_BYTES);
}

Mistake run(const Kernel &kernel, Index grid, Index block, void *const *values) {
  static char signal_stack[SIGNAL_STACK];
  running = &kernel;
  arguments = values;
  grid_size = grid;
  block_size = block;
  threads = static_cast<int>(block.x * block.y * block.z);
  current = first_lane = -1;
  if (!make_stacks(threads)) {
    std::snprintf(message, sizeof message, "no memory for the stacks of %d threads", threads);
    return LAUNCH_FAILED;
  }

  stack_t ours = {}, before;
  ours.ss_sp = signal_stack; /* for a fiber whose own stack is full */
  ours.ss_size = sizeof signal_stack;
  struct sigaction action = {}, segv_before, bus_before;
  action.sa_sigaction = fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigaltstack(&ours, &before);
  sigaction(SIGSEGV, &action, &segv_before);
  sigaction(SIGBUS, &action, &bus_before);
  launching = true;
  int mistake = sigsetjmp(launch_end, 1);
  if (!mistake) run_grid();
  launching = false;
  sigaction(SIGBUS, &bus_before, nullptr);
  sigaction(SIGSEGV, &segv_before, nullptr);
  sigaltstack(&before, nullptr);
  return static_cast<Mistake>(mistake);
}

} // namespace emulated

/* Checks that the compiler puts into the text (-fsanitize=alignment,bounds). */
namespace {
struct Source {
  const char *file;
  uint32_t line, column;
};
struct Type {
  uint16_t kind, info;
  char name[1];
};
struct Mismatch {
  Source source;
  const Type *type;
  unsigned char log_alignment, kind;
};
struct OutOfBounds {
  Source source;
  const Type *array, *index;
};
} // namespace

extern "C" [[noreturn]] __attribute__((visibility("hidden"))) void
__ubsan_handle_type_mismatch_v1_abort(Mismatch *found, uintptr_t address) {
  using namespace emulated;
  unsigned alignment = 1u << found->log_alignment;
  if (!address) fail(ILLEGAL_ADDRESS, "line %u: a null pointer is used", found->source.line);
  fail(MISALIGNED_ADDRESS, "line %u: an access of %s is not aligned to %u bytes",
       found->source.line, found->type->name, alignment);
}

extern "C" [[noreturn]] __attribute__((visibility("hidden"))) void
__ubsan_handle_out_of_bounds_abort(OutOfBounds *found, uintptr_t index) {
  emulated::fail(emulated::ILLEGAL_ADDRESS, "line %u: index %lld is outside of %s",
                 found->source.line, static_cast<long long>(static_cast<int32_t>(index)),
                 found->array->name);
}
