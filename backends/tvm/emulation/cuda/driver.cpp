/* The functions of libcuda.so.1 that a compiled network and its timing need, and what tests need.
 *
 * Functions answer with the codes of the real driver, as far as misuse can be known. A kernel's
 * mistake, which `emulated_message` describes, is an error of the call that does its work (a launch
 * or, where streams are late, a wait) and not, as on a device, of every later call too.
 */
#include "api.h"
#include "memory.h"

#include <algorithm>
#include <cstring>

using namespace emulated;

std::recursive_mutex emulated::one_at_a_time;

static CUresult injected(const char *name) {
  auto &failures = device.failures;
  for (auto failure = failures.begin(); failure != failures.end(); ++failure)
    if (failure->name == name && failure->skipped-- == 0) {
      CUresult code = failure->code;
      failures.erase(failure);
      return code;
    }
  return SUCCESS;
}

CUresult emulated::refused(const char *name, Needs needs) {
  if (CUresult code = injected(name)) return code;
  if (needs != NOTHING && !device.initialized) return NOT_INITIALIZED;
  if (needs != CONTEXT) return SUCCESS;
  if (!current_context()) return INVALID_CONTEXT;
  for (auto &[ordinal, context] : device.contexts)
    if (context.retained && context.handle == current_context()) return SUCCESS;
  return CONTEXT_IS_DESTROYED;
}

/* The device. */
PUBLIC CUresult cuInit(unsigned flags) {
  return call("cuInit", NOTHING, [&] {
    if (flags) return INVALID_VALUE;
    if (!device.devices) return NO_DEVICE;
    device.initialized = true;
    return SUCCESS;
  });
}
PUBLIC CUresult cuDriverGetVersion(int *version) {
  return call("cuDriverGetVersion", NOTHING,
              [&] { return version ? (*version = 13000, SUCCESS) : INVALID_VALUE; });
}
PUBLIC CUresult cuDeviceGetCount(int *count) {
  return call("cuDeviceGetCount", INITIALIZED,
              [&] { return count ? (*count = device.devices, SUCCESS) : INVALID_VALUE; });
}
static bool is_device(int found) { return 0 <= found && found < device.devices; }
PUBLIC CUresult cuDeviceGet(int *found, int ordinal) {
  return call("cuDeviceGet", INITIALIZED, [&] {
    if (!found) return INVALID_VALUE;
    if (!is_device(ordinal)) return INVALID_DEVICE;
    *found = ordinal;
    return SUCCESS;
  });
}
PUBLIC CUresult cuDeviceGetName(char *name, int length, int found) {
  return call("cuDeviceGetName", INITIALIZED, [&] {
    if (!is_device(found)) return INVALID_DEVICE;
    if (!name || length < 1) return INVALID_VALUE;
    std::snprintf(name, length, "emulated GPU %d", found);
    return SUCCESS;
  });
}
PUBLIC CUresult cuDeviceTotalMem_v2(size_t *bytes, int found) {
  return call("cuDeviceTotalMem", INITIALIZED, [&] {
    if (!bytes) return INVALID_VALUE;
    return is_device(found) ? (*bytes = size_t(8) << 30, SUCCESS) : INVALID_DEVICE;
  });
}
static int attribute_of(int attribute) {
  auto found = device.attributes.find(attribute);
  if (found != device.attributes.end()) return found->second;
  switch (attribute) {
  case 1: /* MAX_THREADS_PER_BLOCK */
    return MOST_THREADS;
  case 8: /* MAX_SHARED_MEMORY_PER_BLOCK */
    return 48 << 10;
  case 10: /* WARP_SIZE */
    return LANES;
  case 16: /* MULTIPROCESSOR_COUNT */
    return 16;
  case 75: /* COMPUTE_CAPABILITY_MAJOR */
    return 8;
  case 76: /* and MINOR */
    return 0;
  case 97: /* MAX_SHARED_MEMORY_PER_BLOCK_OPTIN */
    return 163 << 10;
  default:
    return 0;
  }
}
PUBLIC CUresult cuDeviceGetAttribute(int *value, int attribute, int found) {
  return call("cuDeviceGetAttribute", INITIALIZED, [&] {
    if (!value || attribute < 1) return INVALID_VALUE;
    if (!is_device(found)) return INVALID_DEVICE;
    *value = attribute_of(attribute);
    return SUCCESS;
  });
}

/* Contexts. */
PUBLIC CUresult cuDevicePrimaryCtxRetain(void **made, int found) {
  return call("cuDevicePrimaryCtxRetain", INITIALIZED, [&] {
    if (!made) return INVALID_VALUE;
    if (!is_device(found)) return INVALID_DEVICE;
    Context &context = device.contexts[found];
    if (!context.retained++) context.handle = new_handle();
    *made = opaque(context.handle);
    return SUCCESS;
  });
}
PUBLIC CUresult cuDevicePrimaryCtxRelease_v2(int found) {
  return call("cuDevicePrimaryCtxRelease", INITIALIZED, [&] {
    if (!is_device(found)) return INVALID_DEVICE;
    Context &context = device.contexts[found];
    if (!context.retained) return INVALID_CONTEXT;
    if (!--context.retained) destroy_context();
    return SUCCESS;
  });
}
static bool is_context(const void *handle) {
  for (auto &[ordinal, context] : device.contexts)
    if (context.retained && context.handle == number(handle)) return true;
  return !handle;
}
PUBLIC CUresult cuCtxSetCurrent(void *context) {
  return call("cuCtxSetCurrent", INITIALIZED, [&] {
    if (!is_context(context)) return INVALID_CONTEXT;
    contexts.count = std::max(contexts.count, 1);
    contexts.stack[contexts.count - 1] = number(context);
    return SUCCESS;
  });
}
PUBLIC CUresult cuCtxGetCurrent(void **context) {
  return call("cuCtxGetCurrent", INITIALIZED, [&] {
    if (!context) return INVALID_VALUE;
    *context = opaque(current_context());
    return SUCCESS;
  });
}
PUBLIC CUresult cuCtxPushCurrent_v2(void *context) {
  return call("cuCtxPushCurrent", INITIALIZED, [&] {
    if (!context || !is_context(context)) return INVALID_CONTEXT;
    if (contexts.count == Contexts::MOST) return OUT_OF_MEMORY;
    contexts.stack[contexts.count++] = number(context);
    return SUCCESS;
  });
}
PUBLIC CUresult cuCtxPopCurrent_v2(void **context) {
  return call("cuCtxPopCurrent", INITIALIZED, [&] {
    if (!contexts.count) return INVALID_CONTEXT;
    if (context) *context = opaque(current_context());
    contexts.count--;
    return SUCCESS;
  });
}
PUBLIC CUresult cuCtxSynchronize() {
  return call("cuCtxSynchronize", CONTEXT,
              [&] { return capture_forbids() ? CAPTURE_UNSUPPORTED : finish_all(); });
}

/* Modules. */
PUBLIC CUresult cuModuleLoadData(void **module, const void *image) {
  return call("cuModuleLoadData", CONTEXT,
              [&] { /* whatever the image: its kernels are linked here */
                    if (!module || !image) return INVALID_VALUE;
                    Handle made = new_handle();
                    device.modules[made] = 1;
                    *module = opaque(made);
                    return SUCCESS;
              });
}
PUBLIC CUresult cuModuleLoadDataEx(void **module, const void *image, unsigned, int *, void **) {
  return cuModuleLoadData(module, image);
}
PUBLIC CUresult cuModuleUnload(void *module) {
  return call("cuModuleUnload", CONTEXT, [&] {
    auto &functions = device.functions;
    for (auto one = functions.begin(); one != functions.end();)
      one = one->second.module == number(module) ? functions.erase(one) : std::next(one);
    return erase(device.modules, module);
  });
}
PUBLIC CUresult cuModuleGetFunction(void **function, void *module, const char *name) {
  return call("cuModuleGetFunction", CONTEXT, [&] {
    if (!function || !name) return INVALID_VALUE;
    if (!device.modules.count(number(module))) return INVALID_HANDLE;
    for (int i = 0; i < program.count; i++) {
      if (std::strcmp(program.kernels[i].name, name)) continue;
      Handle made = new_handle();
      device.functions[made] = {number(module), &program.kernels[i], 48 << 10};
      *function = opaque(made);
      return SUCCESS;
    }
    return NOT_FOUND;
  });
}
PUBLIC CUresult cuFuncSetAttribute(void *function, int attribute, int value) {
  return call("cuFuncSetAttribute", CONTEXT, [&] {
    auto found = device.functions.find(number(function));
    if (found == device.functions.end()) return INVALID_HANDLE;
    if (attribute != 8 /* MAX_DYNAMIC_SHARED_SIZE_BYTES */) return SUCCESS;
    if (value < 0 || value > attribute_of(97)) return INVALID_VALUE;
    found->second.most_shared = std::max(value, 48 << 10);
    return SUCCESS;
  });
}

/* Memory. */
PUBLIC CUresult cuMemAlloc_v2(uint64_t *made, size_t bytes) {
  return call("cuMemAlloc", CONTEXT, [&] {
    if (capture_forbids()) return CAPTURE_UNSUPPORTED;
    if (!made || !bytes) return INVALID_VALUE;
    *made = allocate(bytes);
    return *made ? SUCCESS : OUT_OF_MEMORY;
  });
}
PUBLIC CUresult cuMemFree_v2(uint64_t address) {
  return call("cuMemFree", CONTEXT, [&] {
    if (capture_forbids()) return CAPTURE_UNSUPPORTED;
    CUresult late = finish_all();
    if (address && !release(address)) return INVALID_VALUE;
    return late;
  });
}

static CUresult check(const Move &move) {
  if (move.to_device ? !holds(move.to, move.bytes) : !move.to || overlaps(move.to, move.bytes))
    return INVALID_VALUE;
  if (move.from_device ? !holds(move.from, move.bytes)
                       : !move.from || overlaps(move.from, move.bytes))
    return INVALID_VALUE;
  return SUCCESS;
}
static CUresult copy_now(const char *name, Move move) {
  return call(name, CONTEXT, [&] {
    if (capture_forbids()) return CAPTURE_UNSUPPORTED;
    if (CUresult code = check(move)) return code;
    submit(0, move);
    return finish_all(true); /* not what streams of their own still have to do */
  });
}
static CUresult copy_later(const char *name, Move move, void *stream) {
  return call(name, CONTEXT, [&] {
    if (!is_stream(number(stream))) return INVALID_HANDLE;
    if (CUresult code = check(move)) return code;
    return submit(number(stream), move);
  });
}
PUBLIC CUresult cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t bytes) {
  return copy_now("cuMemcpyHtoD", {to, number(from), bytes, true, false});
}
PUBLIC CUresult cuMemcpyDtoH_v2(void *to, uint64_t from, size_t bytes) {
  return copy_now("cuMemcpyDtoH", {number(to), from, bytes, false, true});
}
PUBLIC CUresult cuMemcpyDtoD_v2(uint64_t to, uint64_t from, size_t bytes) {
  return copy_now("cuMemcpyDtoD", {to, from, bytes, true, true});
}
PUBLIC CUresult cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *stream) {
  return copy_later("cuMemcpyHtoDAsync", {to, number(from), bytes, true, false}, stream);
}
PUBLIC CUresult cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *stream) {
  return copy_later("cuMemcpyDtoHAsync", {number(to), from, bytes, false, true}, stream);
}
PUBLIC CUresult cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void *stream) {
  return copy_later("cuMemcpyDtoDAsync", {to, from, bytes, true, true}, stream);
}
PUBLIC CUresult cuMemsetD8_v2(uint64_t to, unsigned char value, size_t bytes) {
  return call("cuMemsetD8", CONTEXT, [&] {
    if (capture_forbids()) return CAPTURE_UNSUPPORTED;
    if (!holds(to, bytes)) return INVALID_VALUE;
    submit(0, Fill{to, value, bytes});
    return finish_all(true);
  });
}
PUBLIC CUresult cuMemsetD8Async(uint64_t to, unsigned char value, size_t bytes, void *stream) {
  return call("cuMemsetD8Async", CONTEXT, [&] {
    if (!is_stream(number(stream))) return INVALID_HANDLE;
    return holds(to, bytes) ? submit(number(stream), Fill{to, value, bytes}) : INVALID_VALUE;
  });
}

/* Launches. */
PUBLIC CUresult cuLaunchKernel(void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                               unsigned block_x, unsigned block_y, unsigned block_z,
                               unsigned shared, void *stream, void **parameters, void **extra) {
  return call("cuLaunchKernel", CONTEXT, [&] {
    auto found = device.functions.find(number(function));
    if (found == device.functions.end() || !is_stream(number(stream))) return INVALID_HANDLE;
    const uint64_t threads = uint64_t(block_x) * block_y * block_z;
    if (!grid_x || !grid_y || !grid_z || grid_x > 0x7fffffffu || grid_y > 65535 || grid_z > 65535)
      return INVALID_VALUE;
    if (!threads || threads > MOST_THREADS || block_z > 64) return INVALID_VALUE;
    if (shared > found->second.most_shared || extra || !parameters) return INVALID_VALUE;
    Launch launch = {number(function), {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, {}};
    for (int i = 0; i < found->second.kernel->parameters; i++) {
      if (!parameters[i]) return INVALID_VALUE;
      launch.values.push_back(*static_cast<uint64_t *>(parameters[i]));
    }
    return submit(number(stream), std::move(launch));
  });
}

/* Errors. */
static const struct {
  CUresult code;
  const char *name;
} names[] = {
    {0, "CUDA_SUCCESS"},
    {1, "CUDA_ERROR_INVALID_VALUE"},
    {2, "CUDA_ERROR_OUT_OF_MEMORY"},
    {3, "CUDA_ERROR_NOT_INITIALIZED"},
    {100, "CUDA_ERROR_NO_DEVICE"},
    {101, "CUDA_ERROR_INVALID_DEVICE"},
    {200, "CUDA_ERROR_INVALID_IMAGE"},
    {201, "CUDA_ERROR_INVALID_CONTEXT"},
    {209, "CUDA_ERROR_NO_BINARY_FOR_GPU"},
    {400, "CUDA_ERROR_INVALID_HANDLE"},
    {500, "CUDA_ERROR_NOT_FOUND"},
    {600, "CUDA_ERROR_NOT_READY"},
    {700, "CUDA_ERROR_ILLEGAL_ADDRESS"},
    {701, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"},
    {709, "CUDA_ERROR_CONTEXT_IS_DESTROYED"},
    {716, "CUDA_ERROR_MISALIGNED_ADDRESS"},
    {719, "CUDA_ERROR_LAUNCH_FAILED"},
    {803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"},
    {900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"},
    {901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"},
    {999, "CUDA_ERROR_UNKNOWN"},
};
static CUresult name_of(CUresult code, const char **name) {
  if (!name) return INVALID_VALUE;
  *name = nullptr;
  for (auto &one : names)
    if (one.code == code) *name = one.name;
  return *name ? SUCCESS : INVALID_VALUE;
}
PUBLIC CUresult cuGetErrorName(CUresult code, const char **name) {
  return call("cuGetErrorName", NOTHING, [&] { return name_of(code, name); });
}
PUBLIC CUresult cuGetErrorString(CUresult code, const char **text) {
  return call("cuGetErrorString", NOTHING, [&] { return name_of(code, text); });
}
