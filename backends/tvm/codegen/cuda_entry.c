/* The C entry of a network on an NVIDIA GPU, on the driver API alone.
 *
 * The driver library is loaded when a network is opened; nothing else is needed, and nothing is
 * compiled. A network is a table of launches. It is captured once into a graph, so that a run is one
 * launch of it; single steps, and runs on a caller's stream, launch kernel by kernel.
 *
 * The file that includes this one defines IMAGES, images, KERNELS, kernel_names, launches, steps,
 * STEPS, MOST_ARGUMENTS of a launch, PARAMS_BYTES, WORKSPACE_BYTES, INPUTS, input_bytes, OUTPUTS,
 * output_bytes, and ENTRY(name), which puts the prefix before the names of functions.
 */
#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

typedef int CUresult;
typedef int CUdevice;
typedef uint64_t CUdeviceptr;
typedef void *CUcontext, *CUmodule, *CUfunction, *CUstream, *CUgraph, *CUgraphExec, *CUevent;

enum { CAPABILITY_MAJOR = 75, CAPABILITY_MINOR = 76 }; /* CUdevice_attribute */
enum { NOT_HERE = -2 }; /* no driver, no such device, or not of this architecture */
enum { NON_BLOCKING = 1, THREAD_LOCAL = 1, DEVICES = 1 };

#define FUNCTIONS(X)                                                                             \
  X(cuInit, (unsigned flags))                                                                    \
  X(cuDeviceGetCount, (int *count))                                                              \
  X(cuDeviceGet, (CUdevice *device, int ordinal))                                                \
  X(cuDeviceGetAttribute, (int *value, int attribute, CUdevice device))                          \
  X(cuDevicePrimaryCtxRetain, (CUcontext *context, CUdevice device))                             \
  X(cuDevicePrimaryCtxRelease_v2, (CUdevice device))                                             \
  X(cuCtxPushCurrent_v2, (CUcontext context))                                                    \
  X(cuCtxPopCurrent_v2, (CUcontext *context))                                                    \
  X(cuModuleLoadData, (CUmodule *module, const void *image))                                     \
  X(cuModuleGetFunction, (CUfunction *function, CUmodule module, const char *name))              \
  X(cuModuleUnload, (CUmodule module))                                                           \
  X(cuMemAlloc_v2, (CUdeviceptr *memory, size_t bytes))                                          \
  X(cuMemFree_v2, (CUdeviceptr memory))                                                          \
  X(cuMemsetD8Async, (CUdeviceptr to, unsigned char value, size_t bytes, CUstream stream))       \
  X(cuMemcpyHtoDAsync_v2, (CUdeviceptr to, const void *from, size_t bytes, CUstream stream))     \
  X(cuMemcpyDtoHAsync_v2, (void *to, CUdeviceptr from, size_t bytes, CUstream stream))           \
  X(cuStreamCreate, (CUstream *stream, unsigned flags))                                          \
  X(cuStreamSynchronize, (CUstream stream))                                                      \
  X(cuStreamDestroy_v2, (CUstream stream))                                                       \
  X(cuStreamBeginCapture_v2, (CUstream stream, int mode))                                        \
  X(cuStreamEndCapture, (CUstream stream, CUgraph *graph))                                       \
  X(cuGraphInstantiateWithFlags, (CUgraphExec *exec, CUgraph graph, unsigned long long flags))   \
  X(cuGraphLaunch, (CUgraphExec exec, CUstream stream))                                          \
  X(cuGraphDestroy, (CUgraph graph))                                                             \
  X(cuGraphExecDestroy, (CUgraphExec exec))                                                      \
  X(cuEventCreate, (CUevent *event, unsigned flags))                                             \
  X(cuEventRecord, (CUevent event, CUstream stream))                                             \
  X(cuEventSynchronize, (CUevent event))                                                         \
  X(cuEventElapsedTime, (float *milliseconds, CUevent first, CUevent last))                      \
  X(cuEventDestroy_v2, (CUevent event))                                                          \
  X(cuGetErrorName, (CUresult code, const char **name))                                          \
  X(cuLaunchKernel, (CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z,     \
                     unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared,      \
                     CUstream stream, void **parameters, void **extra))

typedef struct {
#define FIELD(name, parameters) CUresult(*name) parameters;
  FUNCTIONS(FIELD)
#undef FIELD
} Driver;

/* An opened network. Its members are made in this order, and freed in the opposite one. */
typedef struct Network {
  void *library;
  Driver cu;
  CUdevice device;
  CUcontext context;
  CUmodule module;
  CUfunction kernels[KERNELS];
  CUdeviceptr params, workspace, inputs[INPUTS + 1], outputs[OUTPUTS + 1];
  CUstream stream;
  CUgraph graph;
  CUgraphExec exec;
  CUevent first, last;
} Network;

static _Thread_local char message[256];

PUBLIC const char *ENTRY(error)(void) { return message; }

static int failed(const Driver *cu, const char *call, CUresult code) {
  const char *name = NULL;
  if (cu->cuGetErrorName(code, &name) || !name) name = "an unknown error";
  int length = 0;
  while (call[length] && call[length] != '(') length++;
  snprintf(message, sizeof message, "%.*s: %s (%d)", length, call, name, code);
  return code;
}

/* Calls a function of the driver; its failure is that of the caller. */
#define TRY(call)                                                  \
  do {                                                             \
    CUresult code_ = n->cu.call;                                   \
    if (code_) return failed(&n->cu, #call, code_);                \
  } while (0)

/* A caller's context stays current for it: every entry pushes its own, and pops it. */
#define IN_CONTEXT(body)                                           \
  do {                                                             \
    TRY(cuCtxPushCurrent_v2(n->context));                          \
    int found_ = (body);                                           \
    CUcontext own_;                                                \
    CUresult popped_ = n->cu.cuCtxPopCurrent_v2(&own_);            \
    if (!found_ && popped_) return failed(&n->cu, "cuCtxPopCurrent", popped_); \
    return found_;                                                 \
  } while (0)

static int load_driver(Network *n, const char *path) {
  n->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!n->library) {
    snprintf(message, sizeof message, "no NVIDIA driver on this machine: %.200s", dlerror());
    return NOT_HERE;
  }
#define LOAD(name, parameters)                                                        \
  if (!(*(void **)&n->cu.name = dlsym(n->library, #name))) {                          \
    snprintf(message, sizeof message, "the NVIDIA driver is too old: it lacks " #name); \
    return -1;                                                                        \
  }
  FUNCTIONS(LOAD)
#undef LOAD
  return 0;
}

/* Finds the image of the highest architecture of the device's major version that it can run. */
static int find_image(Network *n, const Image **found) {
  int major, minor, best = -1;
  TRY(cuDeviceGetAttribute(&major, CAPABILITY_MAJOR, n->device));
  TRY(cuDeviceGetAttribute(&minor, CAPABILITY_MINOR, n->device));
  for (int i = 0; i < IMAGES; i++) {
    int runs = images[i].capability / 10 == major && images[i].capability % 10 <= minor;
    if (runs && (best < 0 || images[i].capability > images[best].capability)) best = i;
  }
  if (best < 0) {
    int length = snprintf(message, sizeof message, "compiled for sm_%d", images[0].capability);
    for (int i = 1; i < IMAGES && length < 160; i++)
      length += snprintf(message + length, sizeof message - length, ", sm_%d", images[i].capability);
    snprintf(message + length, sizeof message - length, ": this device is sm_%d%d", major, minor);
    return NOT_HERE;
  }
  *found = &images[best];
  return 0;
}

typedef struct {
  const CUdeviceptr *inputs, *outputs;
} Ends;

static int launch(Network *n, const Launch *l, Ends ends, CUstream stream) {
  CUdeviceptr values[MOST_ARGUMENTS];
  void *pointers[MOST_ARGUMENTS];
  for (int i = 0; i < l->count; i++) {
    const Argument *a = &arguments[l->first + i];
    const CUdeviceptr bases[] = {n->params, n->workspace, ends.inputs[a->place == INPUT ? a->index : 0],
                                 ends.outputs[a->place == OUTPUT ? a->index : 0]};
    values[i] = bases[a->place] + a->offset;
    pointers[i] = &values[i];
  }
  TRY(cuLaunchKernel(n->kernels[l->kernel], l->grid[0], l->grid[1], l->grid[2], l->threads, 1, 1,
                     l->shared, stream, pointers, NULL));
  return 0;
}

static int launch_steps(Network *n, int first, int last, Ends ends, CUstream stream) {
  for (int i = steps[first]; i < steps[last]; i++) {
    int code = launch(n, &launches[i], ends, stream);
    if (code) return code;
  }
  return 0;
}

static Ends own_ends(const Network *n) {
  Ends ends = {n->inputs, n->outputs};
  return ends;
}

static int capture(Network *n) {
  TRY(cuStreamBeginCapture_v2(n->stream, THREAD_LOCAL));
  int code = launch_steps(n, 0, STEPS, own_ends(n), n->stream);
  CUresult ended = n->cu.cuStreamEndCapture(n->stream, &n->graph);
  if (code) return code;
  if (ended) return failed(&n->cu, "cuStreamEndCapture", ended);
  TRY(cuGraphInstantiateWithFlags(&n->exec, n->graph, 0));
  return 0;
}

static int make(Network *n, const void *params) {
  const Image *image;
  int code = find_image(n, &image);
  if (code) return code;
  TRY(cuModuleLoadData(&n->module, image->bytes));
  for (int i = 0; i < KERNELS; i++)
    TRY(cuModuleGetFunction(&n->kernels[i], n->module, kernel_names[i]));
  TRY(cuMemAlloc_v2(&n->params, PARAMS_BYTES));
  TRY(cuMemAlloc_v2(&n->workspace, WORKSPACE_BYTES));
  for (int i = 0; i < INPUTS; i++) TRY(cuMemAlloc_v2(&n->inputs[i], input_bytes[i]));
  for (int i = 0; i < OUTPUTS; i++) TRY(cuMemAlloc_v2(&n->outputs[i], output_bytes[i]));
  TRY(cuStreamCreate(&n->stream, NON_BLOCKING));
  /* All copies are in the order of the stream, which waits for no other one. */
  TRY(cuMemcpyHtoDAsync_v2(n->params, params, PARAMS_BYTES, n->stream));
  TRY(cuStreamSynchronize(n->stream));
  TRY(cuEventCreate(&n->first, 0));
  TRY(cuEventCreate(&n->last, 0));
  return capture(n);
}

static int make_in_context(Network *n, const void *params) { IN_CONTEXT(make(n, params)); }

static int open_device(Network *n, const char *driver, int device, const void *params) {
  int count, code = load_driver(n, driver);
  if (code) return code;
  CUresult started = n->cu.cuInit(0);
  if (started) {
    failed(&n->cu, "cuInit", started);
    return NOT_HERE;
  }
  TRY(cuDeviceGetCount(&count));
  if (device < 0 || device >= count) {
    snprintf(message, sizeof message, "no device %d: this machine has %d", device, count);
    return NOT_HERE;
  }
  TRY(cuDeviceGet(&n->device, device));
  TRY(cuDevicePrimaryCtxRetain(&n->context, n->device));
  return make_in_context(n, params);
}

/* Frees what was made; a network that was opened in part is freed in part. */
PUBLIC void ENTRY(close)(Network *n) {
  if (!n) return;
  if (n->context && !n->cu.cuCtxPushCurrent_v2(n->context)) {
    if (n->exec) n->cu.cuGraphExecDestroy(n->exec);
    if (n->graph) n->cu.cuGraphDestroy(n->graph);
    if (n->last) n->cu.cuEventDestroy_v2(n->last);
    if (n->first) n->cu.cuEventDestroy_v2(n->first);
    if (n->stream) n->cu.cuStreamDestroy_v2(n->stream);
    for (int i = 0; i < OUTPUTS; i++)
      if (n->outputs[i]) n->cu.cuMemFree_v2(n->outputs[i]);
    for (int i = 0; i < INPUTS; i++)
      if (n->inputs[i]) n->cu.cuMemFree_v2(n->inputs[i]);
    if (n->workspace) n->cu.cuMemFree_v2(n->workspace);
    if (n->params) n->cu.cuMemFree_v2(n->params);
    if (n->module) n->cu.cuModuleUnload(n->module);
    CUcontext own;
    n->cu.cuCtxPopCurrent_v2(&own);
  }
  if (n->context) n->cu.cuDevicePrimaryCtxRelease_v2(n->device);
  if (n->library) dlclose(n->library);
  free(n);
}

/* Opens with the driver library at a path: tests and emulation have another one. */
PUBLIC int ENTRY(open_driver)(Network **network, const char *driver, int device, const void *params) {
  Network *n = calloc(1, sizeof *n);
  *network = NULL;
  if (!n) {
    snprintf(message, sizeof message, "out of memory");
    return -1;
  }
  int code = open_device(n, driver, device, params);
  if (code)
    ENTRY(close)(n);
  else
    *network = n;
  return code;
}

PUBLIC int ENTRY(open)(Network **network, int device, const void *params) {
  return ENTRY(open_driver)(network, "libcuda.so.1", device, params);
}

static int put_inputs(Network *n, const float *const *inputs) {
  for (int i = 0; i < INPUTS; i++)
    TRY(cuMemcpyHtoDAsync_v2(n->inputs[i], inputs[i], input_bytes[i], n->stream));
  return 0;
}

static int get_outputs(Network *n, float *const *outputs) {
  for (int i = 0; i < OUTPUTS; i++)
    TRY(cuMemcpyDtoHAsync_v2(outputs[i], n->outputs[i], output_bytes[i], n->stream));
  TRY(cuStreamSynchronize(n->stream));
  return 0;
}

static int run(Network *n, const float *const *inputs, float *const *outputs) {
  int code = put_inputs(n, inputs);
  if (code) return code;
  TRY(cuGraphLaunch(n->exec, n->stream));
  return get_outputs(n, outputs);
}

PUBLIC int ENTRY(run)(Network *n, const float *const *inputs, float *const *outputs) {
  IN_CONTEXT(run(n, inputs, outputs));
}

PUBLIC int ENTRY(run_on)(Network *n, void *stream, const uint64_t *inputs, const uint64_t *outputs) {
  Ends ends = {inputs, outputs};
  IN_CONTEXT(launch_steps(n, 0, STEPS, ends, stream));
}

static int run_steps(Network *n, int first, int last) {
  int code = launch_steps(n, first, last, own_ends(n), n->stream);
  if (code) return code;
  TRY(cuStreamSynchronize(n->stream));
  return 0;
}

static int in_range(int first, int last) {
  if (0 <= first && first <= last && last <= STEPS) return 1;
  snprintf(message, sizeof message, "no steps %d to %d: there are %d", first, last, STEPS);
  return 0;
}

PUBLIC int ENTRY(run_steps)(Network *n, int first, int last) {
  if (!in_range(first, last)) return -1;
  IN_CONTEXT(run_steps(n, first, last));
}

static int timed(Network *n, int first, int last, float *milliseconds) {
  TRY(cuEventRecord(n->first, n->stream));
  if (first == 0 && last == STEPS)
    TRY(cuGraphLaunch(n->exec, n->stream));
  else {
    int code = launch_steps(n, first, last, own_ends(n), n->stream);
    if (code) return code;
  }
  TRY(cuEventRecord(n->last, n->stream));
  TRY(cuEventSynchronize(n->last));
  TRY(cuEventElapsedTime(milliseconds, n->first, n->last));
  return 0;
}

PUBLIC int ENTRY(time)(Network *n, int first, int last, float *milliseconds) {
  if (!in_range(first, last)) return -1;
  IN_CONTEXT(timed(n, first, last, milliseconds));
}

/* For comparing values: what the inputs hold, and what steps have left. */
static int write_inputs(Network *n, const float *const *inputs) {
  int code = put_inputs(n, inputs);
  if (code) return code;
  TRY(cuStreamSynchronize(n->stream));
  return 0;
}

PUBLIC int ENTRY(write_inputs)(Network *n, const float *const *inputs) {
  IN_CONTEXT(write_inputs(n, inputs));
}

PUBLIC int ENTRY(read_outputs)(Network *n, float *const *outputs) {
  IN_CONTEXT(get_outputs(n, outputs));
}

/* Fills the outputs and the workspace with a byte, so that what nothing writes shows. */
static int fill(Network *n, unsigned char value) {
  TRY(cuMemsetD8Async(n->workspace, value, WORKSPACE_BYTES, n->stream));
  for (int i = 0; i < OUTPUTS; i++)
    TRY(cuMemsetD8Async(n->outputs[i], value, output_bytes[i], n->stream));
  return 0;
}

PUBLIC int ENTRY(fill)(Network *n, int value) { IN_CONTEXT(fill(n, (unsigned char)value)); }

static int read(Network *n, uint64_t offset, void *to, size_t bytes) {
  if (offset > WORKSPACE_BYTES || bytes > WORKSPACE_BYTES - offset) {
    snprintf(message, sizeof message, "no bytes beyond the workspace of %llu",
             (unsigned long long)WORKSPACE_BYTES);
    return -1;
  }
  TRY(cuMemcpyDtoHAsync_v2(to, n->workspace + offset, bytes, n->stream));
  TRY(cuStreamSynchronize(n->stream));
  return 0;
}

PUBLIC int ENTRY(read_workspace)(Network *n, uint64_t offset, void *to, size_t bytes) {
  IN_CONTEXT(read(n, offset, to, bytes));
}
