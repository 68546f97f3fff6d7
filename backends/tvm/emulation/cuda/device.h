/* What the driver knows: contexts, modules, streams, graphs, events, and the work of streams. */
#pragma once
#include "machine.h"

#include <chrono>
#include <map>
#include <string>
#include <variant>
#include <vector>

namespace emulated {

typedef int CUresult;
inline constexpr CUresult SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3,
                          NO_DEVICE = 100, INVALID_DEVICE = 101, INVALID_CONTEXT = 201,
                          INVALID_HANDLE = 400, NOT_FOUND = 500, NOT_READY = 600,
                          CONTEXT_IS_DESTROYED = 709, CAPTURE_UNSUPPORTED = 900,
                          CAPTURE_INVALIDATED = 901;

/* Handles are numbers that no other object ever has, so that a stale one is noticed. */
typedef uint64_t Handle;
Handle new_handle();

/* Work of a stream. */
struct Launch {
  Handle function;
  Index grid, block;
  std::vector<uint64_t> values; /* of the parameters */
};
struct Move {
  uint64_t to, from;
  size_t bytes;
  bool to_device, from_device;
};
struct Fill {
  uint64_t to;
  unsigned char value;
  size_t bytes;
};
struct Stamp {
  Handle event;
};
typedef std::variant<Launch, Move, Fill, Stamp> Work;

struct Function {
  Handle module;
  const Kernel *kernel;
  unsigned most_shared; /* bytes of dynamic shared memory */
};
struct Stream {
  unsigned flags;
  std::vector<Work> waiting;
  bool asked; /* by cuStreamQuery, since its last work came */
  enum { NO_CAPTURE, CAPTURING, SPOILT } capture;
  int capture_mode;
  std::vector<Work> captured;
};
struct Event {
  Handle stream;
  bool recorded, done;
  std::chrono::steady_clock::time_point time;
};
struct Context {
  int retained;
  Handle handle; /* of the living one */
};
typedef std::vector<Work> Graph;

struct Device {
  bool late_streams; /* work is done no sooner than somebody waits for it */
  bool initialized = false;
  int devices = 1;
  std::map<int, int> attributes;
  std::map<int, Context> contexts; /* the primary ones, by device */
  std::map<Handle, int> modules;
  std::map<Handle, Function> functions;
  std::map<Handle, Stream> streams;
  std::map<Handle, Event> events;
  std::map<Handle, Graph> graphs, executables;
  long long launches = 0, graph_launches = 0;
  struct Failure {
    std::string name;
    int skipped;
    CUresult code;
  };
  std::vector<Failure> failures; /* to come */
};
extern Device device;

/* The contexts that were current in a thread, the last one now. It needs no destructor, which would
 * keep the library loaded. */
struct Contexts {
  enum { MOST = 16 };
  Handle stack[MOST];
  int count;
};
extern thread_local Contexts contexts;
inline Handle current_context() { return contexts.count ? contexts.stack[contexts.count - 1] : 0; }

/* Does or records what a stream is given, or leaves it for later. */
CUresult submit(Handle stream, Work work);
/* Does all work of a stream that waits; returns the first error. */
CUresult finish(Handle stream);
CUresult finish_all(bool blocking_only = false);
bool is_stream(Handle stream); /* 0 is the default stream */
bool capture_forbids(Handle stream = 0);
void destroy_context();

} // namespace emulated
