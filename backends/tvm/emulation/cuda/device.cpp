/* The work of streams: done at once, recorded for a graph, or left until somebody waits for it. */
#include "device.h"
#include "memory.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace emulated {

Device device = {std::getenv("GMPQ_LATE_STREAMS") != nullptr};
thread_local Contexts contexts;

Handle new_handle() {
  static Handle last = 0x1000; /* an address that crashes whoever follows it */
  return last += 16;
}

static CUresult refuse(CUresult code, const char *text) {
  std::snprintf(message, sizeof message, "%s", text);
  return code;
}

static CUresult perform(const Launch &work) {
  auto found = device.functions.find(work.function);
  if (found == device.functions.end())
    return refuse(INVALID_HANDLE, "a kernel of a module that was unloaded");
  const Kernel &kernel = *found->second.kernel;
  void *values[MOST_PARAMETERS];
  for (int i = 0; i < kernel.parameters; i++) {
    if (!holds(work.values[i], 1)) {
      std::snprintf(message, sizeof message, "kernel %s: parameter %d is no memory of the device",
                    kernel.name, i);
      return ILLEGAL_ADDRESS;
    }
    values[i] = reinterpret_cast<void *>(work.values[i]);
  }
  device.launches++;
  Mistake mistake = run(kernel, work.grid, work.block, values);
  char text[128];
  if (!intact(text, sizeof text) && !mistake) {
    std::snprintf(message, sizeof message, "kernel %s: %s", kernel.name, text);
    return ILLEGAL_ADDRESS;
  }
  return mistake;
}

static CUresult perform(const Move &work) {
  if ((work.to_device && !holds(work.to, work.bytes)) ||
      (work.from_device && !holds(work.from, work.bytes)))
    return refuse(ILLEGAL_ADDRESS, "a copy of memory that was freed");
  std::memmove(reinterpret_cast<void *>(work.to), reinterpret_cast<const void *>(work.from),
               work.bytes);
  return SUCCESS;
}

static CUresult perform(const Fill &work) {
  if (!holds(work.to, work.bytes))
    return refuse(ILLEGAL_ADDRESS, "a memset of memory that was freed");
  std::memset(reinterpret_cast<void *>(work.to), work.value, work.bytes);
  return SUCCESS;
}

static CUresult perform(const Stamp &work) {
  auto found = device.events.find(work.event);
  if (found == device.events.end()) return SUCCESS; /* it was destroyed meanwhile */
  found->second.done = true;
  found->second.time = std::chrono::steady_clock::now();
  return SUCCESS;
}

bool is_stream(Handle stream) { return !stream || device.streams.count(stream); }

bool capture_forbids(Handle stream) {
  for (auto &[handle, one] : device.streams) {
    if (one.capture == Stream::NO_CAPTURE) continue;
    if (handle != stream && (stream || one.capture_mode == 2 /* relaxed */)) continue;
    one.capture = Stream::SPOILT;
    return true;
  }
  return false;
}

CUresult finish(Handle handle) {
  std::vector<Work> works;
  works.swap(device.streams[handle].waiting);
  CUresult first = SUCCESS;
  for (auto &work : works) {
    CUresult code = std::visit([](auto &one) { return perform(one); }, work);
    if (code && !first) first = code;
  }
  return first;
}

CUresult finish_all(bool blocking_only) {
  CUresult first = SUCCESS;
  for (auto &[handle, stream] : device.streams) {
    if (blocking_only && stream.flags & 1 /* CU_STREAM_NON_BLOCKING */) continue;
    CUresult code = finish(handle);
    if (code && !first) first = code;
  }
  return first;
}

CUresult submit(Handle handle, Work work) {
  Stream &stream = device.streams[handle];
  switch (stream.capture) {
  case Stream::SPOILT:
    return CAPTURE_INVALIDATED;
  case Stream::CAPTURING:
    stream.captured.push_back(std::move(work));
    return SUCCESS;
  case Stream::NO_CAPTURE:
    break;
  }
  if (!(stream.flags & 1) && device.late_streams) finish_all(true); /* the default stream's order */
  stream.waiting.push_back(std::move(work));
  stream.asked = false;
  return device.late_streams ? SUCCESS : finish(handle);
}

void destroy_context() {
  release_all();
  device.modules.clear();
  device.functions.clear();
  device.streams.clear();
  device.events.clear();
}

} // namespace emulated
