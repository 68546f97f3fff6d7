/* How a function of the driver begins: one at a time, failures of tests, what must be there. */
#pragma once
#include "device.h"

#include <mutex>

#define PUBLIC extern "C" __attribute__((visibility("default")))

namespace emulated {

enum Needs { NOTHING, INITIALIZED, CONTEXT };

extern std::recursive_mutex one_at_a_time;
CUresult refused(const char *name, Needs needs);

/* `name` is the function's, without _v2. */
template <class Body>
CUresult call(const char *name, Needs needs, Body body) {
  std::lock_guard<std::recursive_mutex> lock(one_at_a_time);
  CUresult code = refused(name, needs);
  return code ? code : body();
}

inline Handle number(const void *handle) { return reinterpret_cast<Handle>(handle); }
inline void *opaque(Handle handle) { return reinterpret_cast<void *>(handle); }
template <class Map>
CUresult erase(Map &map, const void *handle) {
  return map.erase(number(handle)) ? SUCCESS : INVALID_HANDLE;
}

} // namespace emulated
