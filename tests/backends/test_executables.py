"""Programs of all kinds offer the same: outputs, stored values, and times where there are any."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest

from gmpq.backends import reference
from gmpq.backends.base import Executable, flusher
from gmpq.backends.ort.program import OrtProgram
from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.emulation.open import Unavailable, open_compiled
from gmpq.backends.tvm.host import HostProgram
from gmpq.backends.tvm.target import find
from gmpq.errors import TargetError
from gmpq.ir import IntGraph
from tests.support.builders import residual
from tests.support.strategies import random_input

Open: TypeAlias = Callable[[IntGraph, Path], Executable]


def host(graph: IntGraph, folder: Path) -> Executable:
    return HostProgram.open(folder, build(graph, find("native"), folder).program)


def onnxruntime(graph: IntGraph, _folder: Path) -> Executable:
    return OrtProgram.load(graph)


def emulated(graph: IntGraph, folder: Path) -> Executable:
    target = find("arm64")
    match open_compiled(folder, build(graph, target, folder).program, target):
        case Unavailable(reason):
            pytest.skip(reason)
        case compiled:
            return compiled


KINDS = (host, onnxruntime, pytest.param(emulated, marks=pytest.mark.arm))


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_and_stored_values_equal_the_reference(kind: Open, tmp_path: Path) -> None:
    graph = residual()
    program, inputs = kind(graph, tmp_path), random_input(graph, 0)
    expected = reference.run(graph, inputs)
    outputs = program.run(inputs)
    assert tuple(outputs) == program.outputs == graph.outputs
    stored = program.trace(inputs)
    assert stored["block.add"].dtype == np.uint8
    for name, values in (*outputs.items(), *stored.items()):
        np.testing.assert_array_equal(values, expected[name], err_msg=name)
    program.close()


@pytest.mark.parametrize("kind", [host, onnxruntime])
@pytest.mark.parametrize("flush_bytes", [0, 4096])
def test_every_run_and_step_has_its_times(kind: Open, flush_bytes: int, tmp_path: Path) -> None:
    graph = residual()
    program, inputs = kind(graph, tmp_path), random_input(graph, 0)
    assert not program.emulated
    assert len(program.time_runs(inputs, 3)) == 3
    steps = program.time_steps(inputs, 2, flush_bytes)
    assert set(steps) <= {node.name for node in graph.nodes}
    assert {len(times) for times in steps.values()} == {2}
    program.close()


@pytest.mark.arm
def test_an_emulated_program_has_no_times(tmp_path: Path) -> None:
    graph = residual()
    program, inputs = emulated(graph, tmp_path), random_input(graph, 0)
    assert program.emulated
    for measure in (program.time_runs, program.time_steps):
        with pytest.raises(TargetError, match="arm64 is emulated, which gives no latency"):
            measure(inputs, 1)


def test_other_bytes_are_read_on_request_only() -> None:
    assert flusher(0)() is None
    assert flusher(64)() == 1
