"""Threads get the stack that kernels need, whatever the C library gives by default."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from gmpq.backends import reference
from gmpq.backends.tvm.build import Form, build
from gmpq.backends.tvm.toolchain import compile_program
from gmpq.ir import Conv2d, Padding, QParams, Window
from tests.single_layers import V3, network_of, random_weight
from tests.strategies import random_input

SMALL = 64 << 10
MAIN = """
#define _GNU_SOURCE
#include "model.h"
#include <pthread.h>
#include <stdio.h>
static _Alignas(64) unsigned char workspace[GMPQ_WORKSPACE_BYTES];
static float image[GMPQ_INPUT_0_ELEMENTS], result[GMPQ_OUTPUT_0_ELEMENTS];
int main(void) {
  const float *inputs[] = {image};
  float *outputs[] = {result};
  pthread_attr_t small;
  pthread_attr_init(&small);
  if (pthread_attr_setstacksize(&small, SMALL) || pthread_setattr_default_np(&small)) return 1;
  if (fread(image, sizeof image, 1, stdin) != 1) return 2;
  if (gmpq_set_threads(2)) return 3;
  for (int i = 0; i < 100; i++) /* sometimes the caller does it all */
    if (gmpq_run(gmpq_params(), workspace, inputs, outputs)) return 4;
  return fwrite(result, sizeof result, 1, stdout) == 1 ? 0 : 5;
}
"""


@pytest.mark.skipif(not V3.runs_here(), reason="needs a processor with AVX2")
def test_threads_have_the_stack_of_the_largest_kernel(tmp_path: Path) -> None:
    weight = random_weight(np.random.default_rng(0), (128, 128, 3, 3), 4)
    conv = Conv2d("conv", ("x",), "y", weight, Window((3, 3), padding=Padding(1, 1, 1, 1)))
    graph = network_of(conv, QParams.full(1.0, 0, 4), (14, 14), 4)
    built = build(graph, V3, tmp_path, form=Form(static=True, embed_params=True))
    assert built.program["stack_bytes"] > 2 * SMALL
    (tmp_path / "main.c").write_text(MAIN)
    flags = (f"-DSMALL={SMALL}", f"-I{tmp_path}", str(tmp_path / "model.a"), "-lm", "-pthread")
    compile_program(tmp_path / "main.c", V3, tmp_path / "main", flags)
    inputs = random_input(graph, 0)
    done = subprocess.run(
        [tmp_path / "main"], input=inputs["image"].tobytes(), capture_output=True, check=True
    )
    expected = reference.run(graph, inputs)["real"]
    np.testing.assert_array_equal(np.frombuffer(done.stdout, np.float32), expected.reshape(-1))
