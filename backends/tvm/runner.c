/* Runs a compiled network from files: for processors that are emulated, and as an example in C.
 *
 *   runner model.so FUNCTION params.bin WORKSPACE_BYTES STEPS TRACE INPUT... -- OUTPUT:BYTES...
 *
 * FUNCTION runs the steps. Inputs are raw float32. After every step the workspace is appended to TRACE, unless that is "-".
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 64, MOST = 16 };
typedef int (*RunSteps)(const void *, void *, const float *const *, float *const *, int, int);

static void *allocate(size_t bytes) {
  void *memory = aligned_alloc(ALIGNMENT, (bytes + ALIGNMENT) / ALIGNMENT * ALIGNMENT);
  if (memory == NULL) {
    fprintf(stderr, "no memory for %zu bytes\n", bytes);
    exit(2);
  }
  return memset(memory, 0, bytes);
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

static int usage(void) {
  fprintf(stderr, "usage: runner model.so FUNCTION params.bin WORKSPACE_BYTES STEPS TRACE "
                  "INPUT... -- OUTPUT:BYTES..., at most %d of each\n", MOST);
  return 2;
}

int main(int count, char **words) {
  if (count < 8) return usage();
  void *library = dlopen(words[1], RTLD_NOW);
  RunSteps run = library ? (RunSteps)(uintptr_t)dlsym(library, words[2]) : NULL;
  if (run == NULL) {
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
