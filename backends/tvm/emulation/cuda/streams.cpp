/* The driver's streams, graphs and events. */
#include "api.h"

using namespace emulated;

/* Streams. */
PUBLIC CUresult cuStreamCreate(void **stream, unsigned flags) {
  return call("cuStreamCreate", CONTEXT, [&] {
    if (!stream || flags > 1) return INVALID_VALUE;
    Handle made = new_handle();
    device.streams[made] = {flags, {}, false, Stream::NO_CAPTURE, 0, {}};
    *stream = opaque(made);
    return SUCCESS;
  });
}
PUBLIC CUresult cuStreamSynchronize(void *stream) {
  return call("cuStreamSynchronize", CONTEXT, [&] {
    if (!is_stream(number(stream))) return INVALID_HANDLE;
    if (device.streams[number(stream)].capture != Stream::NO_CAPTURE) {
      device.streams[number(stream)].capture = Stream::SPOILT;
      return CAPTURE_UNSUPPORTED;
    }
    return finish(number(stream));
  });
}
PUBLIC CUresult cuStreamQuery(void *stream) {
  return call("cuStreamQuery", CONTEXT, [&] {
    if (!is_stream(number(stream))) return INVALID_HANDLE;
    Stream &found = device.streams[number(stream)];
    if (found.capture != Stream::NO_CAPTURE) return CAPTURE_UNSUPPORTED;
    if (found.waiting.empty() || found.asked) return finish(number(stream));
    found.asked = true; /* the next answer is another */
    return NOT_READY;
  });
}
PUBLIC CUresult cuStreamDestroy_v2(void *stream) {
  return call("cuStreamDestroy", CONTEXT, [&] {
    if (!stream || !is_stream(number(stream))) return INVALID_HANDLE;
    finish(number(stream));
    return erase(device.streams, stream);
  });
}
PUBLIC CUresult cuStreamBeginCapture_v2(void *stream, int mode) {
  return call("cuStreamBeginCapture", CONTEXT, [&] {
    if (!stream) return CAPTURE_UNSUPPORTED; /* the default stream cannot be captured */
    if (!is_stream(number(stream))) return INVALID_HANDLE;
    Stream &found = device.streams[number(stream)];
    if (mode < 0 || mode > 2 || found.capture != Stream::NO_CAPTURE) return INVALID_VALUE;
    found.capture = Stream::CAPTURING;
    found.capture_mode = mode;
    found.captured.clear();
    return SUCCESS;
  });
}
PUBLIC CUresult cuStreamEndCapture(void *stream, void **graph) {
  return call("cuStreamEndCapture", CONTEXT, [&] {
    if (!graph) return INVALID_VALUE;
    *graph = nullptr;
    if (!stream || !is_stream(number(stream))) return INVALID_HANDLE;
    Stream &found = device.streams[number(stream)];
    auto state = found.capture;
    found.capture = Stream::NO_CAPTURE;
    if (state == Stream::NO_CAPTURE) return INVALID_VALUE;
    if (state == Stream::SPOILT) return CAPTURE_INVALIDATED;
    Handle made = new_handle();
    device.graphs[made].swap(found.captured);
    *graph = opaque(made);
    return SUCCESS;
  });
}
PUBLIC CUresult cuStreamIsCapturing(void *stream, int *status) {
  return call("cuStreamIsCapturing", CONTEXT, [&] {
    if (!is_stream(number(stream))) return INVALID_HANDLE;
    *status = device.streams[number(stream)].capture; /* the order is CUstreamCaptureStatus's */
    return SUCCESS;
  });
}

/* Graphs. */
PUBLIC CUresult cuGraphInstantiateWithFlags(void **executable, void *graph,
                                            unsigned long long flags) {
  return call("cuGraphInstantiateWithFlags", CONTEXT, [&] {
    auto found = device.graphs.find(number(graph));
    if (!executable || flags || found == device.graphs.end()) return INVALID_VALUE;
    Handle made = new_handle();
    device.executables[made] = found->second;
    *executable = opaque(made);
    return SUCCESS;
  });
}
PUBLIC CUresult cuGraphLaunch(void *executable, void *stream) {
  return call("cuGraphLaunch", CONTEXT, [&] {
    auto found = device.executables.find(number(executable));
    if (found == device.executables.end()) return INVALID_VALUE;
    if (!is_stream(number(stream))) return INVALID_HANDLE;
    device.graph_launches++;
    for (auto &work : found->second)
      if (CUresult code = submit(number(stream), work)) return code;
    return SUCCESS;
  });
}
PUBLIC CUresult cuGraphDestroy(void *graph) {
  return call("cuGraphDestroy", INITIALIZED,
              [&] { return device.graphs.erase(number(graph)) ? SUCCESS : INVALID_VALUE; });
}
PUBLIC CUresult cuGraphExecDestroy(void *executable) {
  return call("cuGraphExecDestroy", INITIALIZED, [&] {
    return device.executables.erase(number(executable)) ? SUCCESS : INVALID_VALUE;
  });
}

/* Events. */
PUBLIC CUresult cuEventCreate(void **event, unsigned) {
  return call("cuEventCreate", CONTEXT, [&] {
    if (!event) return INVALID_VALUE;
    Handle made = new_handle();
    device.events[made] = {0, false, false, {}};
    *event = opaque(made);
    return SUCCESS;
  });
}
PUBLIC CUresult cuEventRecord(void *event, void *stream) {
  return call("cuEventRecord", CONTEXT, [&] {
    auto found = device.events.find(number(event));
    if (found == device.events.end() || !is_stream(number(stream))) return INVALID_HANDLE;
    found->second = {number(stream), true, false, {}};
    return submit(number(stream), Stamp{number(event)});
  });
}
PUBLIC CUresult cuEventSynchronize(void *event) {
  return call("cuEventSynchronize", CONTEXT, [&] {
    auto found = device.events.find(number(event));
    if (found == device.events.end()) return INVALID_HANDLE;
    Handle stream = found->second.stream;
    return found->second.recorded && is_stream(stream) ? finish(stream) : SUCCESS;
  });
}
PUBLIC CUresult cuEventElapsedTime(float *milliseconds, void *from, void *to) {
  return call("cuEventElapsedTime", CONTEXT, [&] {
    auto first = device.events.find(number(from)), last = device.events.find(number(to));
    if (first == device.events.end() || last == device.events.end()) return INVALID_HANDLE;
    if (!milliseconds) return INVALID_VALUE;
    if (!first->second.recorded || !last->second.recorded) return INVALID_HANDLE;
    if (!first->second.done || !last->second.done) return NOT_READY;
    *milliseconds =
        std::chrono::duration<float, std::milli>(last->second.time - first->second.time).count();
    return SUCCESS;
  });
}
PUBLIC CUresult cuEventDestroy_v2(void *event) {
  return call("cuEventDestroy", CONTEXT, [&] { return erase(device.events, event); });
}
