"""Two static libraries in one program, after their entry points were renamed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from gmpq.backends import reference
from gmpq.backends.tvm.build import Form, build
from gmpq.backends.tvm.library import ENTRIES, PARAMS_ENTRY
from gmpq.backends.tvm.target import find
from gmpq.backends.tvm.toolchain import compile_object, link
from tests.strategies import random_graph, random_input

SEEDS = {"first": 39, "second": 20}
MAIN = """
int run_first(void), run_second(void);
int main(void) { return run_first() || run_second() || run_first(); }
"""
ONE = """
#define gmpq_run NAME_run
#define gmpq_set_threads NAME_set_threads
#define gmpq_params NAME_params
#include "NAME/model.h"
#include <stdio.h>
int run_NAME(void) {
  static _Alignas(64) unsigned char workspace[GMPQ_WORKSPACE_BYTES];
  static float image[GMPQ_INPUT_0_ELEMENTS], result[GMPQ_OUTPUT_0_ELEMENTS];
  const float *inputs[] = {image};
  float *outputs[] = {result};
  if (fread(image, sizeof image, 1, stdin) != 1 || gmpq_set_threads(2)) return 1;
  if (gmpq_run(gmpq_params(), workspace, inputs, outputs)) return 2;
  return fwrite(result, sizeof result, 1, stdout) != 1;
}
"""


def network(folder: Path, name: str) -> tuple[bytes, bytes]:
    """Write a network's renamed library; return an image and the outputs for it."""
    (folder / name).mkdir()
    graph = random_graph(SEEDS[name], exact=True)
    build(graph, find("native"), folder / name, form=Form(static=True, embed_params=True))
    ends = [entry.removeprefix("gmpq") for entry in (*ENTRIES, PARAMS_ENTRY)]
    renamed = [f"--redefine-sym=gmpq{end}={name}{end}" for end in ends]
    subprocess.run(["objcopy", *renamed, folder / name / "model.a"], check=True)
    inputs = random_input(graph, 0)
    (output,) = graph.outputs
    return inputs["x"].tobytes(), reference.run(graph, inputs)[output].tobytes()


@pytest.mark.skipif(shutil.which("objcopy") is None, reason="apt-get install binutils")
def test_two_networks_in_one_program(tmp_path: Path) -> None:
    native, objects, streams = find("native"), [], []
    for name in SEEDS:
        streams.append(network(tmp_path, name))
        (tmp_path / f"{name}.c").write_text(ONE.replace("NAME", name))
        objects += [compile_object(tmp_path / f"{name}.c", ("-I.",), native)]
        objects += [tmp_path / name / "model.a"]
    (tmp_path / "main.c").write_text(MAIN)
    objects.insert(0, compile_object(tmp_path / "main.c", (), native))
    link((*map(str, objects), "-lm", "-pthread"), native, tmp_path / "main")
    (first, first_output), (second, second_output) = streams
    given, expected = first + second + first, first_output + second_output + first_output
    done = subprocess.run([tmp_path / "main"], input=given, capture_output=True, check=True)
    np.testing.assert_array_equal(
        np.frombuffer(done.stdout, np.float32), np.frombuffer(expected, np.float32)
    )
