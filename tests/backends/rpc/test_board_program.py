"""The calls that a program on a board makes, without a board."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gmpq.backends.rpc.board_program import BoardProgram
from tests.support.board_programs import PARAMS, PROGRAM

REAL = struct.pack("<f", 3.5)


@dataclass
class Board:
    """A board that records its calls; its workspace counts upwards."""

    calls: list[tuple[Any, ...]] = field(default_factory=list)

    def functions(self, name: str) -> Callable[..., Any]:
        return lambda *arguments: self.call(name.removeprefix("gmpq.board."), *arguments)

    def call(self, name: str, *arguments: Any) -> bytes | None:
        self.calls.append((name, *arguments))
        match name, arguments:
            case "read_workspace", (int(offset), int(size)):
                return bytes(range(offset, offset + size))
            case "read_output", _:
                return REAL
            case "time_runs", (int(count),):
                return struct.pack(f"<{count}d", *range(count))
            case "time_steps", (int(count), _):
                return struct.pack(f"<{2 * count}d", *range(2 * count))
            case _:
                return None


def opened(board: Board, folder: Path) -> BoardProgram:
    (folder / "model.so").write_bytes(b"library")
    (folder / "params.bin").write_bytes(PARAMS)
    return BoardProgram.open(folder, PROGRAM, 2, board.functions, emulated=True)


def test_files_are_sent_before_the_program_is_opened(tmp_path: Path) -> None:
    board = Board()
    program = opened(board, tmp_path)
    assert board.calls == [
        ("tvm.rpc.server.upload", "model.so", b"library"),
        ("tvm.rpc.server.upload", "params.bin", PARAMS),
        ("open", "model.so", "params.bin", 1, 64, 2, 2, "lite0"),
        ("output", 4),
    ]
    assert (program.outputs, program.emulated) == (("y",), True)


def test_codes_are_read_after_their_step_and_inputs_sent_once(tmp_path: Path) -> None:
    board, inputs = Board(), {"x": np.array([1.5, 2.0], np.float32)}
    program = opened(board, tmp_path)
    board.calls.clear()
    found = program.trace(inputs)
    assert {name: values.tolist() for name, values in found.items()} == {
        "a": [0],
        "b": [16],
        "y": [3.5],
    }
    assert program.run(inputs)["y"].tolist() == [3.5]
    assert [call[0] for call in board.calls] == [
        *("input", "run", "read_workspace", "run", "read_workspace", "read_output"),
        *("run", "read_output"),
    ]
    program.run({"x": np.zeros(2, np.float32)})
    assert [call for call in board.calls if call[0] == "input"][1:] == [("input", 0, bytes(8))]


def test_times_belong_to_their_steps(tmp_path: Path) -> None:
    program = opened(Board(), tmp_path)
    inputs = {"x": np.zeros(2, np.float32)}
    assert program.time_runs(inputs, 3) == [0.0, 1.0, 2.0]
    assert program.time_steps(inputs, 2, 4096) == {"a": [0.0, 2.0], "b": [1.0, 3.0]}
