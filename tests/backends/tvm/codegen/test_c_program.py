"""A C program with nothing but the compiled files runs the network."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np

from gmpq.backends import reference
from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.target import find
from tests.support.strategies import random_graph, random_input

MAIN = """
#include "model.h"
#include <stdio.h>
#include <stdlib.h>
static void *file(const char *path, size_t size) {
  void *memory = aligned_alloc(64, (size + 63) / 64 * 64);
  FILE *stream = fopen(path, "rb");
  if (!stream || fread(memory, 1, size, stream) != size) exit(3);
  fclose(stream);
  return memory;
}
int main(void) {
  const float *inputs[] = {file("input.bin", INPUT_BYTES)};
  float *outputs[] = {malloc(OUTPUT_BYTES)};
  void *workspace = aligned_alloc(64, (GMPQ_WORKSPACE_BYTES + 63) / 64 * 64);
  void *params = file("params.bin", GMPQ_PARAMS_BYTES);
  if (gmpq_set_threads(2)) return 4;
  if (gmpq_run(params, workspace, inputs, outputs)) return 5;
  return fwrite(outputs[0], OUTPUT_BYTES, 1, stdout) == 1 ? 0 : 6;
}
"""


def test_a_c_program_computes_the_reference(tmp_path: Path) -> None:
    graph = random_graph(4, exact=True)
    build(graph, find("native"), tmp_path)
    inputs = random_input(graph, 0)
    expected = reference.run(graph, inputs)[graph.outputs[0]]
    (image,) = inputs.values()
    (tmp_path / "main.c").write_text(MAIN)
    (tmp_path / "input.bin").write_bytes(image.tobytes())
    sizes = [f"-DINPUT_BYTES={image.nbytes}", f"-DOUTPUT_BYTES={expected.nbytes}"]
    command = ["cc", "-Wall", "-Werror", *sizes, "main.c", "./model.so", "-o", "main"]
    subprocess.run(command, cwd=tmp_path, check=True)
    done = subprocess.run(["./main"], cwd=tmp_path, check=True, capture_output=True)
    found = np.frombuffer(done.stdout, np.float32).reshape(expected.shape)
    np.testing.assert_array_equal(expected, found)
