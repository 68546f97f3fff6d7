"""Callers that run a network in C at once, and processes that fork after they set threads."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from gmpq.backends import reference
from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.codegen.form import Form
from gmpq.backends.tvm.codegen.toolchain import compile_program
from gmpq.backends.tvm.target import find
from gmpq.ir import Conv2d, Padding, QParams, Window
from tests.support.single_layers import network_of, random_weight
from tests.support.strategies import random_input

COMMON = """
#include "model.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static float image[GMPQ_INPUT_0_ELEMENTS], expected[GMPQ_OUTPUT_0_ELEMENTS];

static int read_samples(void) {
  return fread(image, sizeof image, 1, stdin) != 1 ||
         fread(expected, sizeof expected, 1, stdin) != 1;
}

/* Runs the network `times`; returns how often it is wrong. */
static int wrong(int times) {
  char *workspace = aligned_alloc(64, (GMPQ_WORKSPACE_BYTES + 63) / 64 * 64);
  float *result = malloc(sizeof expected);
  const float *inputs[] = {image};
  float *outputs[] = {result};
  int found = 0;
  for (int i = 0; i < times; i++) {
    memset(result, 0xFF, sizeof expected);
    if (gmpq_run(gmpq_params(), workspace, inputs, outputs)) return times;
    if (memcmp(result, expected, sizeof expected)) found++;
  }
  free(workspace);
  free(result);
  return found;
}
"""
CALLERS = """
static atomic_int errors, running = 6;
static void *call(void *unused) {
  (void)unused;
  errors += wrong(100);
  running--;
  return NULL;
}
int main(void) {
  pthread_t callers[6];
  if (read_samples() || gmpq_set_threads(2)) return 2;
  for (int i = 0; i < 6; i++) pthread_create(&callers[i], NULL, call, NULL);
  for (int threads = 1; running; threads = threads % 4 + 1)
    if (gmpq_set_threads(threads)) errors++;
  for (int i = 0; i < 6; i++) pthread_join(callers[i], NULL);
  return errors != 0;
}
"""
FORKS = """
static void *keep_busy(void *unused) {
  (void)unused;
  for (;;) wrong(1);
}
static int child(int how) {
  if (how % 4 == 1) return wrong(2);
  if (how % 4 == 2) return gmpq_set_threads(3) || wrong(2);
  if (how % 4 == 3) return gmpq_set_threads(1) || gmpq_set_threads(2) || wrong(2);
  return 0;
}
int main(void) {
  pthread_t caller;
  if (read_samples() || gmpq_set_threads(3) || wrong(1)) return 2;
  pthread_create(&caller, NULL, keep_busy, NULL); /* forks come at any moment of a run */
  for (int i = 0; i < 60; i++) {
    pid_t made = fork();
    if (made == 0) {
      alarm(60); /* instead of hanging */
      exit(child(i));
    }
    int status;
    if (made < 0 || waitpid(made, &status, 0) != made || status) return 3;
  }
  return wrong(2);
}
"""


@pytest.mark.parametrize("main", [CALLERS, FORKS], ids=["callers", "forks"])
def test_every_run_is_right(main: str, tmp_path: Path) -> None:
    native = find("native")
    weight = random_weight(np.random.default_rng(0), (64, 64, 3, 3), 4)
    conv = Conv2d("conv", ("x",), "y", weight, Window((3, 3), padding=Padding(1, 1, 1, 1)))
    graph = network_of(conv, QParams.full(1.0, 0, 4), (14, 14), 1)
    build(graph, native, tmp_path, form=Form(static=True, embed_params=True))
    inputs = random_input(graph, 0)
    given = inputs["image"].tobytes() + reference.run(graph, inputs)["real"].tobytes()
    (tmp_path / "main.c").write_text(COMMON + main)
    flags = (f"-I{tmp_path}", str(tmp_path / "model.a"), "-lm", "-pthread")
    compile_program(tmp_path / "main.c", native, tmp_path / "main", flags)
    done = subprocess.run([tmp_path / "main"], input=given, check=False)
    assert done.returncode == 0
