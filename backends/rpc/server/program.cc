#include "program.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "call.h"
#include "clock.h"
#include "descriptor.h"
#include "files.h"

namespace {

constexpr size_t ALIGNMENT = 64;
constexpr int64_t MOST_BYTES = int64_t{1} << 36, MOST_TIMES = 1 << 20;
using RunSteps = int (*)(const void *, void *, const float *const *, float *const *, int, int);
using SetThreads = int (*)(int);

struct Free {
  void operator()(void *memory) const { std::free(memory); }
};

struct Memory {
  std::unique_ptr<char, Free> start;
  size_t size = 0;
};

struct Program {
  RunSteps run = nullptr;
  int steps = 0;
  Memory params, workspace;
  std::vector<Memory> inputs, outputs;
};

/* A session is a process: its program lives as long. */
std::string session_folder;
Program program;

Memory allocate(int64_t size, const char *what) {
  if (size < 0 || size > MOST_BYTES)
    throw Refusal(std::string(what) + ": " + std::to_string(size) + " bytes cannot be held");
  size_t padded = (static_cast<size_t>(size) + ALIGNMENT) / ALIGNMENT * ALIGNMENT;
  auto start = static_cast<char *>(std::aligned_alloc(ALIGNMENT, padded));
  if (start == nullptr)
    throw Refusal(std::string(what) + ": no memory for " + std::to_string(size) + " bytes");
  std::memset(start, 0xFF, padded); /* NaN is where a program writes nothing */
  return {std::unique_ptr<char, Free>(start), static_cast<size_t>(size)};
}

Memory read_file(const std::string &name, int64_t size) {
  Descriptor file(open(path_inside(session_folder, name).c_str(), O_RDONLY | O_CLOEXEC));
  struct stat found;
  if (!file.open() || fstat(file.number(), &found) != 0)
    throw Refusal(name + ": not here: upload it first");
  if (found.st_size != size)
    throw Refusal(name + ": has " + std::to_string(found.st_size) + " bytes instead of " +
                  std::to_string(size) + ": upload it again");
  Memory memory = allocate(size, name.c_str());
  for (size_t done = 0; done < memory.size;) {
    ssize_t count = read(file.number(), memory.start.get() + done, memory.size - done);
    if (count <= 0) throw Refusal(name + ": cannot be read");
    done += static_cast<size_t>(count);
  }
  return memory;
}

void *symbol(void *library, const std::string &name) {
  void *found = dlsym(library, name.c_str());
  if (found == nullptr) throw Refusal(std::string("not a program of gmpq: ") + dlerror());
  return found;
}

void open_program(const Arguments &given, Result &) {
  if (program.run != nullptr) throw Refusal("a program is open: connect again for another one");
  std::string library_name(given.text(0));
  void *library = dlopen(path_inside(session_folder, library_name).c_str(), RTLD_NOW);
  if (library == nullptr) throw Refusal(dlerror());
  std::string prefix(given.text(6));
  auto run = reinterpret_cast<RunSteps>(symbol(library, prefix + "_run_steps"));
  auto set_threads = reinterpret_cast<SetThreads>(symbol(library, prefix + "_set_threads"));
  program.params = read_file(std::string(given.text(1)), given.integer(2));
  program.workspace = allocate(given.integer(3), "workspace");
  program.steps = static_cast<int>(given.integer(4));
  if (set_threads(static_cast<int>(given.integer(5))) != 0)
    throw Refusal("cannot run on " + std::to_string(given.integer(5)) + " threads");
  program.run = run;
}

void set_input(const Arguments &given, Result &) {
  std::string_view content = given.text(1);
  auto index = static_cast<size_t>(given.integer(0));
  if (index > program.inputs.size())
    throw Refusal("input " + std::to_string(given.integer(0)) + ": give those before it first");
  Memory input = allocate(static_cast<int64_t>(content.size()), "input");
  std::memcpy(input.start.get(), content.data(), content.size());
  if (index == program.inputs.size()) program.inputs.emplace_back();
  program.inputs[index] = std::move(input);
}

void add_output(const Arguments &given, Result &) {
  program.outputs.push_back(allocate(given.integer(0), "output"));
}

/* The arguments of the library's run_steps, ready to be called often. */
class Call {
 public:
  Call() {
    if (program.run == nullptr) throw Refusal("no program is open: call gmpq.board.open first");
    for (const Memory &input : program.inputs)
      inputs_.push_back(reinterpret_cast<const float *>(input.start.get()));
    for (const Memory &output : program.outputs)
      outputs_.push_back(reinterpret_cast<float *>(output.start.get()));
  }

  void run(int first, int last) const {
    int status = program.run(program.params.start.get(), program.workspace.start.get(),
                             inputs_.data(), outputs_.data(), first, last);
    if (status != 0)
      throw Refusal("steps " + std::to_string(first) + " to " + std::to_string(last) +
                    " failed with status " + std::to_string(status));
  }

  double time_ms(int first, int last) const {
    double before = now_s();
    run(first, last);
    return (now_s() - before) * 1e3;
  }

 private:
  std::vector<const float *> inputs_;
  std::vector<float *> outputs_;
};

void run(const Arguments &given, Result &) {
  int64_t first = given.integer(0), last = given.integer(1);
  if (first < 0 || last < first || last > program.steps)
    throw Refusal("steps " + std::to_string(first) + " to " + std::to_string(last) + " of " +
                  std::to_string(program.steps) + ": give a range of them");
  Call().run(static_cast<int>(first), static_cast<int>(last));
}

std::string_view part_of(const Memory &memory, int64_t offset, int64_t size) {
  int64_t end = static_cast<int64_t>(memory.size);
  if (offset < 0 || size < 0 || offset > end || size > end - offset)
    throw Refusal(std::to_string(size) + " bytes at " + std::to_string(offset) + " of " +
                  std::to_string(end) + ": give a range of them");
  return {memory.start.get() + offset, static_cast<size_t>(size)};
}

void read_output(const Arguments &given, Result &result) {
  int64_t index = given.integer(0);
  if (index < 0 || index >= static_cast<int64_t>(program.outputs.size()))
    throw Refusal("output " + std::to_string(index) + ": there is none");
  const Memory &output = program.outputs[static_cast<size_t>(index)];
  result.bytes({output.start.get(), output.size});
}

void read_workspace(const Arguments &given, Result &result) {
  result.bytes(part_of(program.workspace, given.integer(0), given.integer(1)));
}

/* Reads all of `memory`, which drives other data out of the caches. */
void read_all(const Memory &memory) {
  constexpr size_t LINE = 16; /* bytes; no cache has shorter lines */
  for (size_t i = 0; i < memory.size; i += LINE)
    static_cast<void>(*static_cast<const volatile char *>(memory.start.get() + i));
}

/* Returns the milliseconds of `count` rounds, each of ranges of `width` steps; `others` is read
   before each of them. */
void time_rounds(int64_t count, int width, const Memory &others, Result &result) {
  if (count < 1 || count > MOST_TIMES) throw Refusal("give a number of runs from 1 to 1048576");
  Call call;
  std::vector<double> spent;
  for (int64_t round = 0; round < count; round++)
    for (int step = 0; step < program.steps; step += width) {
      read_all(others);
      spent.push_back(call.time_ms(step, step + width));
    }
  result.bytes({reinterpret_cast<char *>(spent.data()), spent.size() * sizeof(double)});
}

void time_runs(const Arguments &given, Result &result) {
  time_rounds(given.integer(0), program.steps, Memory(), result);
}

void time_steps(const Arguments &given, Result &result) {
  time_rounds(given.integer(0), 1, allocate(given.integer(1), "other memory"), result);
}

}  // namespace

void publish_program(const std::string &folder) {
  session_folder = folder;
  publish("gmpq.board.open", open_program);
  publish("gmpq.board.input", set_input);
  publish("gmpq.board.output", add_output);
  publish("gmpq.board.run", run);
  publish("gmpq.board.read_output", read_output);
  publish("gmpq.board.read_workspace", read_workspace);
  publish("gmpq.board.time_runs", time_runs);
  publish("gmpq.board.time_steps", time_steps);
}
