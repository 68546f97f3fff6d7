/* A GPU on a CPU (x86-64, System V): each thread of a block is a fiber, blocks run one by one.
 *
 * The lanes of a warp run in order, each until it waits. An instruction of a whole warp (a
 * "collective") posts its operands and goes on when all 32 lanes have posted; a barrier, when all
 * threads of the block have reached it. A mistake of the kernel ends its launch with a message.
 */
#pragma once
#include <cstddef>
#include <cstdint>

namespace emulated {

enum { LANES = 32, MOST_THREADS = 1024, MOST_PARAMETERS = 64 };

struct Index {
  unsigned x, y, z;
};

/* A kernel whose parameters are pointers alone; `call` runs it as one thread. */
struct Kernel {
  const char *name;
  int parameters;
  void (*call)(void *const *values);
};

/* The kernels of a CUDA text and its shared memory; the text's unit defines them. */
struct Program {
  const Kernel *kernels;
  int count;
  char *shared, *shared_end;
};
extern const Program program;

/* The environment of the process (GMPQ_LATE_COPIES, GMPQ_BACKWARDS) sets them, or a test does. */
struct Settings {
  bool late_copies; /* cp.async moves bytes no sooner than the wait that orders it */
  bool backwards;   /* the last warp and the last lane run first */
};
extern Settings settings;

extern Index thread_index, block_index, block_size, grid_size;

enum Mistake { NONE = 0, ILLEGAL_ADDRESS = 700, MISALIGNED_ADDRESS = 716, LAUNCH_FAILED = 719 };

/* Runs all blocks. Returns NONE, or the mistake that `message` describes. */
Mistake run(const Kernel &kernel, Index grid, Index block, void *const *values);
extern char message[512];

/* What kernels do. `operands` are the lanes' own, on their stacks; results go there too. */
using Collective = void (*)(void *const operands[LANES]);
void meet(Collective what, void *operands);
void reach_barrier();
void copy_async(void *to, const void *from, size_t bytes, size_t alignment);
void commit_copies();
void wait_for_copies(size_t groups_left);
void need_shared(const void *pointer, const char *instruction); /* 16 bytes, aligned */

/* Ends the launch that runs; the message is preceded by the kernel, the block and the thread. */
[[noreturn]] void fail(Mistake mistake, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Describes an address for a message; the memory of the device gives it. */
void describe(const void *address, char *text, size_t size);

} // namespace emulated
