/* Runs a compiled network from files: for processors that are emulated, and as an example in C.
 *
 *   runner model.so PREFIX params.bin WORKSPACE_BYTES STEPS TRACE INPUT... -- OUTPUT:BYTES...
 *
 * PREFIX begins the names of the network's functions. Inputs are raw float32. After every step the
 * workspace is appended to TRACE, unless that is "-". STEPS of -1 is one call that runs all of them.
 * What the network writes to holds NaN before it.
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 64, MOST = 256 };
typedef int (*Run)(const void *, void *, const float *const *, float *const *);
typedef int (*RunSteps)(const void *, void *, const float *const *, float *const *, int, int);

static void *allocate(size_t bytes) {
  void *memory = aligned_alloc(ALIGNMENT, (bytes + ALIGNMENT) / ALIGNMENT * ALIGNMENT);
  if (memory == NULL) {
    fprintf(stderr, "no memory for %zu bytes\n", bytes);
    exit(2);
  }
  return memset(memory, 0xFF, bytes);
}

static FILE *open_file(const char *path, const char *mode) {
  FILE *file = fopen(path, mode);
  if (file == NULL) {
    perror(path);
    exit(2);
  }
  return file;
}

static void *read_file(const char *path) {
  FILE *file = open_file(path, "rb");
  fseek(file, 0, SEEK_END);
  size_t bytes = (size_t)ftell(file);
  rewind(file);
  void *memory = allocate(bytes);
  if (fread(memory, 1, bytes, file) != bytes) {
    perror(path);
    exit(2);
  }
  fclose(file);
  return memory;
}

static void write_file(const char *path, const void *memory, size_t bytes) {
  FILE *file = open_file(path, "wb");
  if (fwrite(memory, 1, bytes, file) != bytes || fclose(file)) {
    perror(path);
    exit(2);
  }
}

static void *function(void *library, const char *prefix, const char *name) {
  char symbol[256];
  snprintf(symbol, sizeof symbol, "%s_%s", prefix, name);
  return dlsym(library, symbol);
}

static int usage(void) {
  fprintf(stderr, "usage: runner model.so PREFIX params.bin WORKSPACE_BYTES STEPS TRACE "
                  "INPUT... -- OUTPUT:BYTES..., at most %d of each\n", MOST);
  return 2;
}

int main(int count, char **words) {
  if (count < 8) return usage();
  void *library = dlopen(words[1], RTLD_NOW);
  RunSteps run = library ? (RunSteps)(uintptr_t)function(library, words[2], "run_steps") : NULL;
  Run run_whole = library ? (Run)(uintptr_t)function(library, words[2], "run") : NULL;
  if (run == NULL || run_whole == NULL) {
    fprintf(stderr, "%s\n", dlerror());
    return 2;
  }
  const void *params = read_file(words[3]);
  size_t bytes = strtoull(words[4], NULL, 10);
  void *workspace = allocate(bytes);
  const float *inputs[MOST];
  float *outputs[MOST];
  char *paths[MOST];
  size_t sizes[MOST];
  int steps = atoi(words[5]), word = 7, made = 0;
  for (int i = 0; word < count && strcmp(words[word], "--"); i++) {
    if (i == MOST) return usage();
    inputs[i] = read_file(words[word++]);
  }
  for (word++; word < count; word++, made++) {
    char *colon = strrchr(words[word], ':');
    if (made == MOST || colon == NULL) return usage();
    *colon = 0;
    paths[made] = words[word];
    sizes[made] = strtoull(colon + 1, NULL, 10);
    outputs[made] = allocate(sizes[made]);
  }
  FILE *trace = strcmp(words[6], "-") ? open_file(words[6], "wb") : NULL;
  int failed = steps < 0 ? run_whole(params, workspace, inputs, outputs) : 0;
  if (failed) {
    fprintf(stderr, "the network failed with status %d\n", failed);
    return 1;
  }
  for (int i = 0; i < steps; i++) {
    int status = run(params, workspace, inputs, outputs, i, i + 1);
    if (status) {
      fprintf(stderr, "step %d failed with status %d\n", i, status);
      return 1;
    }
    if (trace && fwrite(workspace, 1, bytes, trace) != bytes) return 2;
  }
  if (trace) fclose(trace);
  for (int i = 0; i < made; i++) write_file(paths[i], outputs[i], sizes[i]);
  return 0;
}
