/* What tests ask of the driver: failures, settings, and counts of what lives. */
#include "api.h"
#include "memory.h"

#include <algorithm>

using namespace emulated;

typedef std::lock_guard<std::recursive_mutex> Lock;

/* The call of `name` (without _v2) after `skipped` others fails with `code`, and does nothing. */
PUBLIC void emulated_fail_after(const char *name, int skipped, CUresult code) {
  Lock lock(one_at_a_time);
  device.failures.push_back({name, skipped, code});
}
PUBLIC void emulated_fail(const char *name, CUresult code) { emulated_fail_after(name, 0, code); }
/* Failures that were asked for and did not come yet; forgets them. */
PUBLIC int emulated_forget_failures() {
  Lock lock(one_at_a_time);
  int left = static_cast<int>(device.failures.size());
  device.failures.clear();
  return left;
}

/* What is alive: allocations, modules, graphs, executables, streams, events, retained contexts;
 * then the kernels that ran and the graphs that were launched. */
PUBLIC void emulated_counts(long long counts[9]) {
  Lock lock(one_at_a_time);
  long long contexts = 0;
  for (auto &[ordinal, context] : device.contexts) contexts += context.retained;
  const size_t streams = device.streams.size() - device.streams.count(0);
  const long long found[9] = {allocations(),
                              (long long)device.modules.size(),
                              (long long)device.graphs.size(),
                              (long long)device.executables.size(),
                              (long long)streams,
                              (long long)device.events.size(),
                              contexts,
                              device.launches,
                              device.graph_launches};
  std::copy(found, found + 9, counts);
}

/* The last mistake of a kernel; it stays until there is another. */
PUBLIC const char *emulated_message() { return message; }

/* Sets late_copies, late_streams, backwards (0, 1), devices, capability (86 is 8.6). Returns 1
 * where there is no such setting. */
PUBLIC int emulated_set(const char *name, int value) {
  Lock lock(one_at_a_time);
  const std::string setting = name;
  if (setting == "late_copies")
    settings.late_copies = value;
  else if (setting == "late_streams")
    device.late_streams = value;
  else if (setting == "backwards")
    settings.backwards = value;
  else if (setting == "devices")
    device.devices = value;
  else if (setting == "capability")
    device.attributes[75] = value / 10, device.attributes[76] = value % 10;
  else
    return 1;
  return 0;
}
PUBLIC void emulated_set_attribute(int attribute, int value) {
  Lock lock(one_at_a_time);
  device.attributes[attribute] = value;
}
