"""The server for ARM, on emulated processors: what a board does, but for its times."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gmpq.backends import reference
from gmpq.backends.rpc.pool import DevicePool, run
from gmpq.backends.rpc.server.build import SERVER, cached, place_in
from gmpq.backends.rpc.tasks import RunConfig, run_task_of
from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.emulation import qemu
from gmpq.backends.tvm.target import find
from gmpq.boards.package import LIBSTDCXX, QEMU
from gmpq.cli.cache import user_cache
from tests.support.boards import Board
from tests.support.single_layers import random_convolution
from tests.support.trackers import Tracker

TARGET = find("arm64")
ROOT = qemu.LIBRARIES / TARGET.triple


def missing() -> str | None:
    """Return what has to be done before these tests can run."""
    if (reason := qemu.missing(TARGET)) is not None:
        return reason
    if not (ROOT / "lib" / LIBSTDCXX).exists():
        return "to emulate a board: apt-get install libstdc++6-arm64-cross"
    if "GMPQ_WHEELS" in os.environ or place_in(user_cache(), TARGET.triple).exists():
        return None
    return (
        "no board server for ARM yet: gmpq board emulate builds it, or name wheels in GMPQ_WHEELS"
    )


REASON = missing()
pytestmark = [
    pytest.mark.arm,
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]


@pytest.fixture(scope="session")
def arm_server() -> Path:
    wheels = os.environ.get("GMPQ_WHEELS")
    return cached(TARGET.triple, Path(wheels) if wheels else None, user_cache()) / SERVER


@pytest.fixture
def cortex_a72(arm_server: Path, tracker: Tracker, tmp_path: Path) -> Iterator[Board]:
    work = tmp_path / "board"
    work.mkdir()
    command = [
        *(QEMU, "-cpu", "cortex-a72", "-L", str(ROOT), str(arm_server)),
        *("--emulated", "cortex-a72", "--key", "board", "--port", "0"),
        *("--tracker", str(tracker.address)),
    ]
    board = Board(command, work)
    tracker.wait_for("board")
    yield board
    assert board.stop() == 0
    assert list(work.iterdir()) == []


def measured(target: str, tracker: Tracker, folder: Path) -> tuple[bytes, str, bool]:
    """Return the output of a convolution on the board, why it failed, and whether it is right."""
    graph = random_convolution(np.random.default_rng(0), (8, 8))
    program = build(graph, find(target), folder).program
    image = np.random.default_rng(1).normal(0, 60, graph.values["image"].shape)
    inputs = {"image": image.astype(np.float32)}
    (folder / "sample").write_bytes(inputs["image"].tobytes())
    task = run_task_of(folder, program, "aarch64", (str(folder / "sample"),), RunConfig(repeat=2))
    report = run(DevicePool(tracker.address, "board"), [task], folder)
    ((_, session),) = report.sessions
    if not session.done:
        return b"", session.failed, False
    assert session.after["emulated"] is True
    assert session.after["processor"] == "cortex-a72"
    expected = reference.run(graph, inputs)[graph.outputs[0]].tobytes()
    return expected, "", (session.values / "0").read_bytes().endswith(expected)


def test_a_program_equals_the_reference(
    cortex_a72: Board, tracker: Tracker, tmp_path: Path
) -> None:
    output, failed, right = measured("rpi4", tracker, tmp_path)
    assert (len(output) > 0, failed, right) == (True, "", True)
    cortex_a72.wait_log("ended after .* s: done")
    assert cortex_a72.children() == []


def test_an_instruction_that_the_processor_lacks(
    cortex_a72: Board, tracker: Tracker, tmp_path: Path
) -> None:
    _, failed, _ = measured("rpi5", tracker, tmp_path)
    assert failed.startswith("SIGILL: the program has an instruction that this processor lacks")
    cortex_a72.wait_log("ended after .* s: SIGILL")
    (tmp_path / "again").mkdir()
    assert measured("rpi4", tracker, tmp_path / "again")[2]
