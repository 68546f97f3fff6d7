/* Classifies one image by the compiled network in this directory.
 *
 *   cc -O2 -I. classify.c model.a -lm -pthread -o classify
 *   classify IMAGE.f32 [THREADS [params.bin]]
 *
 * The image is raw float32 in the shape of model.h, preprocessed as manifest.json says. Prints the
 * five highest outputs: class and score. All memory is static.
 */
#include "model.h"

#include <stdio.h>
#include <stdlib.h>

enum { CLASSES = GMPQ_OUTPUT_0_ELEMENTS, SHOWN = CLASSES < 5 ? CLASSES : 5 };

static float image[GMPQ_INPUT_0_ELEMENTS], scores[CLASSES];
static _Alignas(64) unsigned char workspace[GMPQ_WORKSPACE_BYTES];

/* Fills `memory` with the whole file, which has exactly `bytes`. */
static void read_file(const char *path, void *memory, size_t bytes) {
  FILE *file = fopen(path, "rb");
  if (file == NULL) {
    perror(path);
    exit(2);
  }
  if (fread(memory, 1, bytes, file) != bytes || fgetc(file) != EOF) {
    fprintf(stderr, "%s: is not of %zu bytes\n", path, bytes);
    exit(2);
  }
  fclose(file);
}

#ifdef GMPQ_PARAMS_EMBEDDED
static const void *find_params(const char *path) {
  (void)path;
  return gmpq_params();
}
#else
static const void *find_params(const char *path) {
  static _Alignas(64) unsigned char params[GMPQ_PARAMS_BYTES];
  read_file(path, params, sizeof params);
  return params;
}
#endif

/* Prints the highest scores; each is taken once, the first of equal ones first. */
static void print_highest(void) {
  static char taken[CLASSES];
  for (int i = 0; i < SHOWN; i++) {
    int best = -1;
    for (int c = 0; c < CLASSES; c++)
      if (!taken[c] && (best < 0 || scores[c] > scores[best])) best = c;
    taken[best] = 1;
    printf("%5d %9.5f\n", best, scores[best]);
  }
}

int main(int count, char **words) {
  if (count < 2 || count > 4) {
    fprintf(stderr, "usage: %s IMAGE.f32 [THREADS [params.bin]]\n", words[0]);
    return 2;
  }
  read_file(words[1], image, sizeof image);
  const void *params = find_params(count > 3 ? words[3] : "params.bin");
  if (gmpq_set_threads(count > 2 ? atoi(words[2]) : 1)) {
    fprintf(stderr, "%s: threads: give 1 to 256\n", words[2]);
    return 2;
  }
  const float *inputs[] = {image};
  float *outputs[] = {scores};
  int status = gmpq_run(params, workspace, inputs, outputs);
  if (status) {
    fprintf(stderr, "the network failed with status %d\n", status);
    return 1;
  }
  print_highest();
  return 0;
}
