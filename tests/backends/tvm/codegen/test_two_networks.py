"""Two networks in one program, each with a prefix of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from gmpq.backends import reference
from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.codegen.form import Form
from gmpq.backends.tvm.codegen.header import check_prefix
from gmpq.backends.tvm.codegen.toolchain import compile_program
from gmpq.backends.tvm.target import find
from gmpq.errors import OutputError
from tests.support.strategies import random_graph, random_input

SEEDS = {"first": 39, "Second_2": 20}
MAIN = """
#include "first/model.h"
#include "Second_2/model.h"
#include <stdio.h>
static _Alignas(64) unsigned char memory[FIRST_WORKSPACE_BYTES + SECOND_2_WORKSPACE_BYTES];
static float image[FIRST_INPUT_0_ELEMENTS + SECOND_2_INPUT_0_ELEMENTS];
static float result[FIRST_OUTPUT_0_ELEMENTS + SECOND_2_OUTPUT_0_ELEMENTS];
static int first(void) {
  const float *inputs[FIRST_INPUTS] = {image};
  float *outputs[FIRST_OUTPUTS] = {result};
  if (fread(image, 4, FIRST_INPUT_0_ELEMENTS, stdin) != FIRST_INPUT_0_ELEMENTS) return 1;
  if (first_run_steps(first_params(), memory, inputs, outputs, 0, FIRST_STEPS)) return 2;
  return fwrite(result, 4, FIRST_OUTPUT_0_ELEMENTS, stdout) != FIRST_OUTPUT_0_ELEMENTS;
}
static int second(void) {
  const float *inputs[SECOND_2_INPUTS] = {image};
  float *outputs[SECOND_2_OUTPUTS] = {result};
  if (fread(image, 4, SECOND_2_INPUT_0_ELEMENTS, stdin) != SECOND_2_INPUT_0_ELEMENTS) return 3;
  if (Second_2_run(Second_2_params(), memory, inputs, outputs)) return 4;
  return fwrite(result, 4, SECOND_2_OUTPUT_0_ELEMENTS, stdout) != SECOND_2_OUTPUT_0_ELEMENTS;
}
int main(void) {
  return first_set_threads(2) || Second_2_set_threads(3) || first() || second() || first();
}
"""


def network(folder: Path, name: str) -> tuple[bytes, bytes]:
    """Write a network's libraries; return an image and the outputs for it."""
    (folder / name).mkdir()
    graph = random_graph(SEEDS[name], exact=True)
    form = Form(static=True, embed_params=True, prefix=name)
    build(graph, find("native"), folder / name, form=form)
    inputs = random_input(graph, 0)
    (output,) = graph.outputs
    return inputs["x"].tobytes(), reference.run(graph, inputs)[output].tobytes()


def test_two_networks_in_one_program(tmp_path: Path) -> None:
    (first, first_output), (second, second_output) = (network(tmp_path, name) for name in SEEDS)
    given, expected = first + second + first, first_output + second_output + first_output
    (tmp_path / "main.c").write_text(MAIN)
    for suffix in ("a", "so"):
        libraries = (str(tmp_path / name / f"model.{suffix}") for name in SEEDS)
        flags = ("-Wall", "-Wextra", "-Werror", f"-I{tmp_path}", *libraries, "-lm", "-pthread")
        compile_program(tmp_path / "main.c", find("native"), tmp_path / "main", flags)
        done = subprocess.run([tmp_path / "main"], input=given, capture_output=True, check=True)
        np.testing.assert_array_equal(
            np.frombuffer(done.stdout, np.float32), np.frombuffer(expected, np.float32), suffix
        )


@pytest.mark.parametrize("prefix", ["", "2nd", "_run", "a-b", "é", "a b", "a\n"])
def test_prefixes_that_no_function_can_have_are_refused(prefix: str) -> None:
    with pytest.raises(OutputError, match="give a letter, then letters, digits and _"):
        check_prefix(prefix)
