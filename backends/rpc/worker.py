"""The process that talks to one board: ``python -m gmpq.backends.rpc.worker``.

It reads a lease and a task from stdin and writes events to stdout, one JSON object per line:

    {"ready": true}      before it reads anything
    {"board": {...}}     the board's information, before and after the measurement
    {"sample": 0}        the values of a run have been written
    {"runs": [...]}      milliseconds of whole runs
    {"steps": [[...]]}   milliseconds of every step, round by round
    {"failed": "..."}    why the program does not run there
    {"disconnected": "..."}  why the board disconnected
    {"done": true}

A call to a board that vanished may never return; then the parent process ends this one.
"""

from __future__ import annotations

import ctypes
import importlib.util
import itertools
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias, assert_never

import numpy as np
import tvm_ffi

from gmpq.backends.base import Executable, Tensor
from gmpq.backends.rpc.board_program import BoardProgram, Functions
from gmpq.backends.rpc.tasks import (
    DeviceQuery,
    MeasureTask,
    RunTask,
    Task,
    device_model_of,
    from_json,
)

PROTOCOL = 3  # of backends/rpc/server/information.cc
WARM_UP = 3
BLOCKS = 3  # whole runs and steps take turns, so that a board that slows down slows both
CALL_S = 2.0  # about the longest call to the board
REMOTE_ERROR = "RPCError: Error caught from RPC call:"
LIMIT = "RPCSessionTimeoutError: "

Event: TypeAlias = dict[str, Any]
Board: TypeAlias = dict[str, Any]  # a board's information


def main() -> None:
    """Do the task on stdin, whose first line is the lease."""
    load_runtime()
    write({"ready": True})
    host, port, key, values = json.loads(sys.stdin.readline())
    task = from_json(sys.stdin.readline())
    try:
        connection = tvm_ffi.get_global_func("rpc.Connect")(host, port, key, False)
        for event in run(task, Path(values), connection.get_function):
            write(event)
        write({"done": True})
    except AttributeError:  # no such function
        write({"failed": "its server is not gmpq-board: start the one of gmpq board build"})
    except RuntimeError as error:
        write(failure(str(error)))


def load_runtime() -> None:
    """Load TVM's runtime, whose functions are the client; TVM itself takes seconds to import."""
    spec = importlib.util.find_spec("tvm")
    assert spec is not None
    assert spec.origin is not None
    library = Path(spec.origin).parent / "lib" / "libtvm_runtime.so"
    ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)


def write(event: Event) -> None:
    """Print ``event``."""
    print(json.dumps(event), flush=True)  # noqa: T201 - the parent process reads it


def failure(message: str) -> Event:
    """Return the event of an error: the board reported it, or the connection broke."""
    lines = message.strip().splitlines() or ["no message"]
    if lines[0] == REMOTE_ERROR:
        return {"failed": " ".join(lines[1:])}
    if lines[0].startswith(LIMIT):
        return {"failed": lines[0].removeprefix(LIMIT)}
    return {"disconnected": lines[0]}


def run(task: Task, values: Path, functions: Functions) -> Iterator[Event]:
    """Yield what happens while ``task`` is done; the values of run 0 go to ``values/0``."""
    before = json.loads(functions("gmpq.board.information")())
    yield {"board": before}
    if (reason := _refusal(task, before)) is not None:
        yield {"failed": reason}
        return
    match task:
        case RunTask():
            yield from _run_program(task, values, functions, before)
        case MeasureTask():
            yield from _measure_steps(task, functions, before)
        case DeviceQuery():
            return
        case _:
            assert_never(task)


def _refusal(task: Task, board: Board) -> str | None:
    if board["protocol"] != PROTOCOL:
        return "its server is of another gmpq: run gmpq board build and copy it again"
    if board["machine"] != task.machine:
        return f"it is {board['machine']}, the program for {task.machine}: compile for its --target"
    match task:
        case RunTask():
            return None
        case MeasureTask(device_model=expected):
            return _no_times(board) or _other_model(device_model_of(board), expected)
        case DeviceQuery():
            return _no_times(board)
        case _:
            assert_never(task)


def _no_times(board: Board) -> str | None:
    if not board["emulated"]:
        return None
    return (
        "an emulated board measures no time: give the --key of real ones, or compile with "
        "--tune off, by predicted cycles"
    )


def _other_model(found: str, expected: str) -> str | None:
    if found == expected:
        return None
    return f"it is {found}, another one {expected}: give boards that differ other keys"


def _run_program(
    task: RunTask, values: Path, functions: Functions, board: Board
) -> Iterator[Event]:
    program = _opened(task, functions, board)
    inputs: Mapping[str, Tensor] = {}
    for index, sample in enumerate(task.samples):
        inputs = _inputs(task, Path(sample))
        stored = program.trace(inputs).values()
        (values / str(index)).write_bytes(b"".join(array.tobytes() for array in stored))
        yield {"sample": index}
    if task.repeat:
        yield from _times(program, inputs, task.repeat)
        yield {"board": json.loads(functions("gmpq.board.information")())}


def _measure_steps(task: MeasureTask, functions: Functions, board: Board) -> Iterator[Event]:
    program = _opened(task, functions, board)
    program.time_steps({}, 1, task.flush_bytes)  # warms up
    for _ in range(task.rounds):
        yield {"steps": _rounds(program.time_steps({}, 1, task.flush_bytes))}


def _opened(task: RunTask | MeasureTask, functions: Functions, board: Board) -> BoardProgram:
    emulated = bool(board["emulated"])
    return BoardProgram.open(
        Path(task.directory), task.program, task.threads, functions, emulated=emulated
    )


def _inputs(task: RunTask, sample: Path) -> dict[str, Tensor]:
    """Return the inputs whose bytes a file holds, one after the other."""
    numbers, found, start = np.fromfile(sample, np.float32), {}, 0
    for spec in task.program.inputs:
        found[spec.name] = numbers[start : start + spec.elements].reshape(spec.shape)
        start += spec.elements
    return found


def _times(program: Executable, inputs: Mapping[str, Tensor], repeat: int) -> Iterator[Event]:
    longest_ms = max(program.time_runs(inputs, 1)[0] for _ in range(WARM_UP))
    most = max(1, int(CALL_S * 1e3 / longest_ms))
    for count in shares(repeat, BLOCKS):
        for part in shares(count, -(-count // most)):
            yield {"runs": program.time_runs(inputs, part)}
        for part in shares(count, -(-count // most)):
            yield {"steps": _rounds(program.time_steps(inputs, part))}


def _rounds(steps: Mapping[str, list[float]]) -> list[list[float]]:
    """Return the times of all steps, round by round."""
    return [list(times) for times in zip(*steps.values(), strict=True)]


def shares(count: int, parts: int) -> list[int]:
    """Return ``count`` as a sum of at most ``parts`` numbers that are nearly equal."""
    bounds = [count * i // parts for i in range(parts + 1)]
    return [b - a for a, b in itertools.pairwise(bounds) if b > a]


if __name__ == "__main__":
    main()
