"""Threads get the stack that kernels need, and ``GMPQ_STACK_BYTES`` is all that a run takes."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gmpq.backends import reference
from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.codegen.form import Form
from gmpq.backends.tvm.codegen.toolchain import compile_program
from gmpq.backends.tvm.emulation import qemu
from gmpq.backends.tvm.target import find
from gmpq.ir import (
    Conv2d,
    Dequantize,
    Graph,
    IntGraph,
    Padding,
    QParams,
    Quantize,
    Softmax,
    Value,
    Window,
)
from tests.support.single_layers import V3, network_of, random_weight
from tests.support.strategies import random_input

SMALL = 64 << 10
LOADED = """
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


# The stack is painted; what a run leaves of the paint tells how deep it went. It is the first run,
# so that the dynamic linker binds functions on the same stack.
PAINTED = """
#include "model.h"
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
enum { PAINT = 0xA5, MARGIN = 512, SIZE = GMPQ_STACK_BYTES + (1 << 20) };
static _Alignas(4096) unsigned char stack[SIZE];
static _Alignas(64) unsigned char workspace[GMPQ_WORKSPACE_BYTES];
static float image[GMPQ_INPUT_0_ELEMENTS], result[GMPQ_OUTPUT_0_ELEMENTS];
static void *run(void *unused) {
  const float *inputs[] = {image};
  float *outputs[] = {result};
  unsigned char *here = __builtin_frame_address(0), *end = stack;
  (void)unused;
  memset(stack, PAINT, (size_t)(here - stack) - MARGIN);
  int status = gmpq_run(gmpq_params(), workspace, inputs, outputs);
  while (*end == PAINT) end++;
  printf("%zu", (size_t)(here - end));
  return (void *)(intptr_t)status;
}
int main(void) {
  pthread_attr_t attributes;
  pthread_t thread;
  void *status;
  if (pthread_attr_init(&attributes) || pthread_attr_setstack(&attributes, stack, SIZE)) return 1;
  if (pthread_create(&thread, &attributes, run, NULL)) return 2;
  return pthread_join(thread, &status) || status ? 3 : 0;
}
"""


def convolution(bits: int) -> IntGraph:
    weight = random_weight(np.random.default_rng(0), (128, 128, 3, 3), bits)
    window = Window((3, 3), padding=Padding(1, 1, 1, 1))
    conv = Conv2d("conv", ("x",), "y", weight, window)
    return network_of(conv, QParams.full(1.0, 0, bits), (14, 14), 1)


def softmax() -> IntGraph:
    shape, q = (1, 100), QParams.full(0.1, 128, 8)
    values = Value("x", shape), Value("codes", shape, q), Value("real", shape), Value("y", shape)
    io = Quantize("codes", ("x",), "codes"), Dequantize("real", ("codes",), "real")
    nodes = (*io, Softmax("y", ("real",), "y"))
    return Graph("softmax", ("x",), ("y",), {value.name: value for value in values}, nodes)


NETWORKS = {
    "softmax": softmax,
    "two-bits": lambda: convolution(2),
    "eight-bits": lambda: convolution(8),
}


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("name", ["native", "x86-64-v3", "arm64", "armv7"])
def test_a_run_takes_no_more_stack_than_told(
    name: str, make: Callable[[], IntGraph], tmp_path: Path
) -> None:
    target = find(name)
    reason = None if target.runs_here() else qemu.missing(target)
    if reason is not None:
        pytest.skip(reason)
    program = tmp_path / "main"
    built = build(make(), target, tmp_path, form=Form(static=True, embed_params=True))
    (tmp_path / "main.c").write_text(PAINTED)
    flags = (f"-I{tmp_path}", str(tmp_path / "model.a"), "-lm", "-pthread", "-Wl,-z,lazy")
    compile_program(tmp_path / "main.c", target, program, flags)
    command = [str(program)] if target.runs_here() else qemu.command(target, program)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 0 < int(done.stdout) <= built.program.stack_bytes


@pytest.mark.skipif(not V3.runs_here(), reason="needs a processor with AVX2")
def test_threads_have_the_stack_of_the_largest_kernel(tmp_path: Path) -> None:
    weight = random_weight(np.random.default_rng(0), (128, 128, 3, 3), 4)
    conv = Conv2d("conv", ("x",), "y", weight, Window((3, 3), padding=Padding(1, 1, 1, 1)))
    graph = network_of(conv, QParams.full(1.0, 0, 4), (14, 14), 4)
    built = build(graph, V3, tmp_path, form=Form(static=True, embed_params=True))
    assert built.program.stack_bytes > 2 * SMALL
    (tmp_path / "main.c").write_text(LOADED)
    flags = (f"-DSMALL={SMALL}", f"-I{tmp_path}", str(tmp_path / "model.a"), "-lm", "-pthread")
    compile_program(tmp_path / "main.c", V3, tmp_path / "main", flags)
    inputs = random_input(graph, 0)
    done = subprocess.run(
        [tmp_path / "main"], input=inputs["image"].tobytes(), capture_output=True, check=True
    )
    expected = reference.run(graph, inputs)["real"]
    np.testing.assert_array_equal(np.frombuffer(done.stdout, np.float32), expected.reshape(-1))
