"""The process that talks to one board: ``python -m gmpq.backends.rpc.worker``.

It reads an offer and a task from stdin and tells what happens on stdout, one JSON object per line:

    {"ready": true}      before it reads anything
    {"board": {...}}     what the board says about itself, before and after the measurement
    {"sample": 0}        the values of a run have been written
    {"runs": [...]}      milliseconds of whole runs
    {"steps": [[...]]}   milliseconds of every step, round by round
    {"failed": "..."}    why the program does not run there
    {"lost": "..."}      why the board was lost
    {"done": true}

A call to a board that vanished may never return; then whoever started this process ends it.
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
from gmpq.backends.rpc.tasks import Inquiry, Job, Task, Trial, from_json, likeness_of

PROTOCOL = 3  # of backends/rpc/server/information.cc
WARM_UP = 3
BLOCKS = 3  # whole runs and steps take turns, so that a board that slows down slows both
CALL_S = 2.0  # a call to the board takes about so long at most
TOLD = "RPCError: Error caught from RPC call:"
LIMIT = "RPCSessionTimeoutError: "

Event: TypeAlias = dict[str, Any]
Board: TypeAlias = dict[str, Any]  # what a board says about itself


def main() -> None:
    """Do the task on stdin, whose first line says with which board."""
    load_runtime()
    tell({"ready": True})
    host, port, key, values = json.loads(sys.stdin.readline())
    task = from_json(sys.stdin.readline())
    try:
        session = tvm_ffi.get_global_func("rpc.Connect")(host, port, key, False)
        for event in run(task, Path(values), session.get_function):
            tell(event)
        tell({"done": True})
    except AttributeError:  # no such function
        tell({"failed": "its server is not gmpq-board: start the one of gmpq board build"})
    except RuntimeError as error:
        tell(failure(str(error)))


def load_runtime() -> None:
    """Load TVM's runtime, whose functions are the client; TVM itself takes seconds to import."""
    spec = importlib.util.find_spec("tvm")
    assert spec is not None
    assert spec.origin is not None
    library = Path(spec.origin).parent / "lib" / "libtvm_runtime.so"
    ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)


def tell(event: Event) -> None:
    """Print ``event``."""
    print(json.dumps(event), flush=True)  # noqa: T201 - whoever started this process reads it


def failure(message: str) -> Event:
    """Return the event of an error: what the board said, or that nothing is heard of it."""
    lines = message.strip().splitlines() or ["no message"]
    if lines[0] == TOLD:
        return {"failed": " ".join(lines[1:])}
    if lines[0].startswith(LIMIT):
        return {"failed": lines[0].removeprefix(LIMIT)}
    return {"lost": lines[0]}


def run(task: Task, values: Path, functions: Functions) -> Iterator[Event]:
    """Yield what happens while ``task`` is done; the values of run 0 go to ``values/0``."""
    before = json.loads(functions("gmpq.board.information")())
    yield {"board": before}
    if (reason := _refusal(task, before)) is not None:
        yield {"failed": reason}
        return
    match task:
        case Job():
            yield from _run_job(task, values, functions, before)
        case Trial():
            yield from _run_trial(task, functions, before)
        case Inquiry():
            return
        case _:
            assert_never(task)


def _refusal(task: Task, board: Board) -> str | None:
    if board["protocol"] != PROTOCOL:
        return "its server is of another gmpq: run gmpq board build and copy it again"
    if board["machine"] != task.machine:
        return f"it is {board['machine']}, the program for {task.machine}: compile for its --target"
    return None if isinstance(task, Job) else _worthless(task, board)


def _worthless(task: Trial | Inquiry, board: Board) -> str | None:
    """Return why times of ``board`` say nothing."""
    if board["emulated"]:
        return (
            "an emulated board measures no time: give the --key of real ones, or compile with "
            "--tune off, by predicted cycles"
        )
    likeness = likeness_of(board)
    if isinstance(task, Trial) and likeness != task.likeness:
        return f"it is {likeness}, another one {task.likeness}: give boards that differ other keys"
    return None


def _run_job(job: Job, values: Path, functions: Functions, board: Board) -> Iterator[Event]:
    program = _opened(job, functions, board)
    inputs: Mapping[str, Tensor] = {}
    for index, sample in enumerate(job.samples):
        inputs = _inputs(job, Path(sample))
        stored = program.trace(inputs).values()
        (values / str(index)).write_bytes(b"".join(array.tobytes() for array in stored))
        yield {"sample": index}
    if job.repeat:
        yield from _times(program, inputs, job.repeat)
        yield {"board": json.loads(functions("gmpq.board.information")())}


def _run_trial(trial: Trial, functions: Functions, board: Board) -> Iterator[Event]:
    program = _opened(trial, functions, board)
    program.time_steps({}, 1, trial.flush_bytes)  # warms up
    for _ in range(trial.rounds):
        yield {"steps": _rounds(program.time_steps({}, 1, trial.flush_bytes))}


def _opened(task: Job | Trial, functions: Functions, board: Board) -> BoardProgram:
    emulated = bool(board["emulated"])
    return BoardProgram.open(
        Path(task.directory), task.program, task.threads, functions, emulated=emulated
    )


def _inputs(job: Job, sample: Path) -> dict[str, Tensor]:
    """Return the inputs whose bytes a file holds, one after the other."""
    numbers, found, start = np.fromfile(sample, np.float32), {}, 0
    for spec in job.program.inputs:
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
    ends = [count * i // parts for i in range(parts + 1)]
    return [b - a for a, b in itertools.pairwise(ends) if b > a]


if __name__ == "__main__":
    main()
