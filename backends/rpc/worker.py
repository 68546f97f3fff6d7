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
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, assert_never

import tvm_ffi

from gmpq.backends.rpc.tasks import Inquiry, Job, Task, Trial, from_json, likeness_of

PROTOCOL = 3  # of backends/rpc/server/information.cc
WARM_UP = 3
BLOCKS = 3  # whole runs and steps take turns, so that a board that slows down slows both
CALL_S = 2.0  # a call to the board takes about so long at most
TOLD = "RPCError: Error caught from RPC call:"
LIMIT = "RPCSessionTimeoutError: "

Call = Callable[..., Any]


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


def tell(event: dict[str, Any]) -> None:
    """Print ``event``."""
    print(json.dumps(event), flush=True)  # noqa: T201 - whoever started this process reads it


def failure(message: str) -> dict[str, Any]:
    """Return the event of an error: what the board said, or that nothing is heard of it."""
    lines = message.strip().splitlines() or ["no message"]
    if lines[0] == TOLD:
        return {"failed": " ".join(lines[1:])}
    if lines[0].startswith(LIMIT):
        return {"failed": lines[0].removeprefix(LIMIT)}
    return {"lost": lines[0]}


def run(task: Task, values: Path, function: Callable[[str], Call]) -> Iterator[dict[str, Any]]:
    """Yield what happens while ``task`` is done; the values of run 0 go to ``values/0``.

    ``function`` returns the board's functions by name.
    """
    before = json.loads(function("gmpq.board.information")())
    yield {"board": before}
    if (reason := _refusal(task, before)) is not None:
        yield {"failed": reason}
        return
    match task:
        case Job():
            yield from _run_job(task, values, function)
        case Trial():
            yield from _run_trial(task, function)
        case Inquiry():
            return
        case _:
            assert_never(task)


def _refusal(task: Task, board: dict[str, Any]) -> str | None:
    if board["protocol"] != PROTOCOL:
        return "its server is of another gmpq: run gmpq board build and copy it again"
    if board["machine"] != task.machine:
        return f"it is {board['machine']}, the program for {task.machine}: compile for its --target"
    return None if isinstance(task, Job) else _worthless(task, board)


def _worthless(task: Trial | Inquiry, board: dict[str, Any]) -> str | None:
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


def _run_job(job: Job, values: Path, function: Callable[[str], Call]) -> Iterator[dict[str, Any]]:
    _upload(job, function)
    add = function("gmpq.board.output")
    for size in job.output_bytes:
        add(size)
    for index, sample in enumerate(job.samples):
        _set_inputs(job, Path(sample).read_bytes(), function("gmpq.board.input"))
        (values / str(index)).write_bytes(b"".join(_values(job, function)))
        yield {"sample": index}
    if job.repeat:
        yield from _times(job, function)
        yield {"board": json.loads(function("gmpq.board.information")())}


def _run_trial(trial: Trial, function: Callable[[str], Call]) -> Iterator[dict[str, Any]]:
    _upload(trial, function)
    time_steps = function("gmpq.board.time_steps")
    time_steps(1, trial.others_bytes)  # warms up
    for _ in range(trial.rounds):
        yield {"steps": [_floats(time_steps(1, trial.others_bytes))]}


def _upload(job: Job | Trial, function: Callable[[str], Call]) -> None:
    upload = function("tvm.rpc.server.upload")
    for path in (job.library, job.params):
        upload(Path(path).name, Path(path).read_bytes())
    function("gmpq.board.open")(
        Path(job.library).name,
        Path(job.params).name,
        job.params_bytes,
        job.workspace_bytes,
        job.steps,
        job.threads,
        job.prefix,
    )


def _set_inputs(job: Job, content: bytes, give: Call) -> None:
    start = 0
    for index, size in enumerate(job.input_bytes):
        give(index, content[start : start + size])
        start += size


def _values(job: Job, function: Callable[[str], Call]) -> Iterator[bytes]:
    """Yield what every step leaves behind, and then the outputs."""
    step, read = function("gmpq.board.run"), function("gmpq.board.read_workspace")
    for index, parts in enumerate(job.parts):
        step(index, index + 1)
        yield from (bytes(read(part.offset, part.size)) for part in parts)
    output = function("gmpq.board.read_output")
    yield from (bytes(output(index)) for index in range(len(job.output_bytes)))


def _times(job: Job, function: Callable[[str], Call]) -> Iterator[dict[str, Any]]:
    time_runs, time_steps = function("gmpq.board.time_runs"), function("gmpq.board.time_steps")
    longest_ms = max(_floats(time_runs(1))[0] for _ in range(WARM_UP))
    most = max(1, int(CALL_S * 1e3 / longest_ms))
    for count in shares(job.repeat, BLOCKS):
        for part in shares(count, -(-count // most)):
            yield {"runs": _floats(time_runs(part))}
        for part in shares(count, -(-count // most)):
            times = _floats(time_steps(part, 0))
            rounds = range(0, len(times), job.steps)
            yield {"steps": [times[i : i + job.steps] for i in rounds]}


def shares(count: int, parts: int) -> list[int]:
    """Return ``count`` as a sum of at most ``parts`` numbers that are nearly equal."""
    ends = [count * i // parts for i in range(parts + 1)]
    return [b - a for a, b in itertools.pairwise(ends) if b > a]


def _floats(content: Any) -> list[float]:
    return [number for (number,) in struct.iter_unpack("<d", bytes(content))]


if __name__ == "__main__":
    main()
