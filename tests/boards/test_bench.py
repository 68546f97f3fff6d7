"""A compiled network on boards of this machine: compared value by value, and measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gmpq.artifact import samples
from gmpq.artifact.files import GRAPH, SAMPLES
from gmpq.backends.rpc.address import Address
from gmpq.backends.rpc.pool import DevicePool
from gmpq.backends.rpc.session import Session
from gmpq.backends.rpc.tasks import RunConfig
from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.target import native
from gmpq.boards import bench
from gmpq.errors import BoardError, OutputError
from gmpq.files import manifest, saved_graph
from gmpq.ir import IntGraph
from tests.support.boards import StartBoard
from tests.support.builders import residual
from tests.support.trackers import Tracker


def output(folder: Path, graph: IntGraph, program_of: IntGraph | None = None) -> Path:
    """Return an output directory whose program computes ``program_of``, or the graph itself."""
    folder.mkdir()
    saved_graph.save(graph, folder / GRAPH)
    rng = np.random.default_rng(0)
    inputs = {
        name: rng.normal(0, 3, graph.values[name].shape).astype(np.float32) for name in graph.inputs
    }
    samples.write([inputs, {name: -array for name, array in inputs.items()}], folder / SAMPLES)
    program = build(program_of or graph, native(), folder).program
    bops = {node.name: 100 for node in graph.nodes}
    fields = {"target": "native", "options": {"storage": "int8"}, "kernels": []}
    manifest.write(folder, {**fields, "tvm": program.to_json(), "bops": bops})
    return folder


def devices(tracker: Tracker, boards: int = 1) -> DevicePool:
    return DevicePool(tracker.address, "board", boards, deadline_s=60, distinct=True)


def test_all_boards_equal_the_reference(
    tracker: Tracker, start_board: StartBoard, tmp_path: Path
) -> None:
    ports = [start_board(tracker).port for _ in range(2)]
    out = output(tmp_path / "out", residual())
    results = bench.bench(out, devices(tracker, 2), RunConfig(repeat=5))
    assert results.equal
    assert results.missing == ()
    assert {level for _, level in results.parity.levels()} == {f"127.0.0.1:{p}" for p in ports}
    assert all(comparison.compared for comparison in results.parity.comparisons)
    steps = len(json.loads((out / "manifest.json").read_text())["tvm"]["steps"])
    assert len(results.rows) == 2 * (1 + steps)
    assert {row.timing.runs for row in results.rows} == {5}
    text = bench.to_text(results, layers=True)
    for word in (f"127.0.0.1:{ports[0]}", "equal", "median ms", "block.conv"):
        assert word in text


def test_wrong_programs_are_found(
    tracker: Tracker, start_board: StartBoard, tmp_path: Path
) -> None:
    start_board(tracker)
    graph = residual()
    quantize = graph.values["codes"]
    assert quantize.q is not None
    other = replace(quantize, q=replace(quantize.q, scale=quantize.q.scale * 1.5))
    wrong = replace(graph, values={**graph.values, "codes": other})
    out = output(tmp_path / "out", graph, wrong)
    results = bench.bench(out, devices(tracker), RunConfig(repeat=0))
    assert not results.equal
    assert not any(output.equal for output in results.parity.outputs)
    assert results.rows == ()
    assert "0 of 1  DIFFERENT" in bench.to_text(results, layers=False)


def test_emulated_boards_are_marked(
    tracker: Tracker, start_board: StartBoard, tmp_path: Path
) -> None:
    start_board(tracker, "--emulated", "cortex-a72")
    results = bench.bench(output(tmp_path / "out", residual()), devices(tracker), RunConfig())
    text = bench.to_text(results, layers=False)
    assert "cortex-a72 x" in text
    assert text.count("emulated, not a latency") == 2


def test_what_remains_when_a_board_is_missing(
    tracker: Tracker, start_board: StartBoard, tmp_path: Path
) -> None:
    start_board(tracker)
    out = output(tmp_path / "out", residual())
    results = bench.bench(out, devices(tracker, 2), RunConfig(repeat=3))
    assert results.equal
    assert results.rows
    told = "not measured: no board of 'board' is left: the tracker knows 1"
    assert told in bench.to_text(results, layers=False)


def test_no_board_at_all(tracker: Tracker, tmp_path: Path) -> None:
    out = output(tmp_path / "out", residual())
    with pytest.raises(
        BoardError, match="no board of 'board' was free within 1 s: the tracker has"
    ):
        bench.bench(out, replace(devices(tracker), deadline_s=1.0), RunConfig())


def test_changed_outputs_are_not_run(tracker: Tracker, tmp_path: Path) -> None:
    out = output(tmp_path / "out", residual())
    (out / "params.bin").write_bytes(b"")
    with pytest.raises(OutputError, match=r"params.bin: changed since it was compiled"):
        bench.bench(out, devices(tracker), RunConfig())


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param({}, {}, "a:1: no information", id="nothing"),
        pytest.param(
            {"model": "Raspberry Pi 4", "temperature_c": 40.0, "frequency_mhz": 600.0},
            {
                "model": "Raspberry Pi 4",
                "processor": "Cortex-A72",
                "cores": 4,
                "features": "fp asimd evtstrm crc32",
                "governor": "ondemand",
                "temperature_c": 55.5,
                "frequency_mhz": 1500.0,
                "throttled": "50000",
            },
            "a:1: Raspberry Pi 4, Cortex-A72 x 4 (asimd), governor ondemand, 600 to 1500 MHz, "
            "40 to 55.5 °C, throttled 50000, its clock changes with the load: set the governor "
            "performance",
            id="all",
        ),
        pytest.param(
            {"temperature_c": 40.0},
            {"temperature_c": 40.0, "governor": "performance", "throttled": "0"},
            "a:1: governor performance, 40 °C",
            id="steady",
        ),
    ],
)
def test_boards_in_one_line(
    before: dict[str, object], after: dict[str, object], expected: str, tmp_path: Path
) -> None:
    session = Session(Address("a", 1), tmp_path, before=before, after=after)
    assert bench.board_line(session) == expected
    session.disconnected, session.runs_ms = "silent for 60 s", [1.0]
    assert bench.board_line(session) == (
        f"{expected}; disconnected: silent for 60 s; kept 1 runs, 0 of every layer"
    )
