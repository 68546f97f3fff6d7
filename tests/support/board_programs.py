"""Small libraries with the entry points of a compiled network, written in C for a purpose."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

from gmpq.backends.rpc.tasks import RunConfig, RunTask, run_task_of
from gmpq.program import PREFIX, Program, ProgramStep, StoredValue, TensorSpec
from tests.support.boards import TRIPLE

SOURCE = """\
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static int calls;

/* Tells whether no other process has come here before. */
static int first(void) {{ return open("{marker}", O_CREAT | O_EXCL | O_WRONLY, 0600) >= 0; }}

int {prefix}_set_threads(int threads) {{ return threads == 1 ? 0 : -1; }}

int {prefix}_run_steps(const char *params, char *workspace, const float *const *inputs,
                       float *const *outputs, int begin, int end) {{
  calls++;
  {body}
  for (int step = begin; step < end; step++) workspace[16 * step] = params[0] + step;
  outputs[0][0] = inputs[0][0] + inputs[0][1];
  return 0;
}}
"""
PARAMS = b"\x05"
INPUT = struct.pack("<2f", 1.5, 2.0)
VALUES = b"\x05\x06" + struct.pack("<f", 3.5)  # of two steps, and of the output
PROGRAM = Program(
    target="native",
    params_bytes=len(PARAMS),
    workspace_bytes=64,
    inputs=(TensorSpec("x", (2,)),),
    outputs=(TensorSpec("y", (1,)),),
    steps=(
        ProgramStep("a", "", ("a",), (StoredValue("a", 0, (1,), (1,)),)),
        ProgramStep("b", "", ("b", "y"), (StoredValue("b", 16, (1,), (1,)),)),
    ),
    prefix="lite0",
)


def write(folder: Path, body: str, marker: Path | None = None, prefix: str = PREFIX) -> None:
    """Write a program that does ``body`` in every call; processes find each other by ``marker``."""
    source = folder / "model.c"
    source.write_text(SOURCE.format(body=body, marker=marker or folder / "marker", prefix=prefix))
    made = str(folder / "model.so")
    subprocess.run(["cc", "-shared", "-fPIC", str(source), "-o", made], check=True)
    (folder / "params.bin").write_bytes(PARAMS)


def job(folder: Path, body: str = "", config: RunConfig | None = None) -> RunTask:
    """Return a job whose program does ``body`` in every call."""
    write(folder, body, prefix="lite0")
    (folder / "sample0").write_bytes(INPUT)
    machine = TRIPLE.partition("-")[0]
    samples = (str(folder / "sample0"),)
    return run_task_of(folder, PROGRAM, machine, samples, config or RunConfig(repeat=10))
