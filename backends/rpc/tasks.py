"""The tasks of a board, as dataclasses and as JSON.

A task goes to a separate process (``worker.py``), which reports events as one JSON object per line.
Whatever happens to the board, the events until then are kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias, assert_never

from gmpq.program import Program


@dataclass(frozen=True, slots=True)
class RunTask:
    """A program to run on a board.

    Each file of ``samples`` holds the bytes of all inputs of a run. The values of that run, the
    codes of every step and then the outputs, go into one file too.
    """

    machine: str  # that the library is for, as uname names it
    directory: str  # of the library and its parameters
    program: Program
    samples: tuple[str, ...]
    threads: int
    repeat: int  # timed runs of the network, and of every step


@dataclass(frozen=True, slots=True)
class MeasureTask:
    """A program without inputs and outputs, whose steps are timed in turn.

    Only times of real boards of the same ``device_model`` are comparable.
    """

    machine: str
    device_model: str  # as ``device_model_of`` returns it
    directory: str
    program: Program
    threads: int
    rounds: int
    flush_bytes: int  # read before every timed step


@dataclass(frozen=True, slots=True)
class DeviceQuery:
    """The question which device model a board is, before it measures times."""

    machine: str


Task: TypeAlias = RunTask | MeasureTask | DeviceQuery


def to_json(task: Task) -> str:
    """Return the task as one line."""
    fields = {"kind": type(task).__name__, **asdict(task)}
    match task:
        case RunTask() | MeasureTask():
            return json.dumps({**fields, "program": task.program.to_json()})
        case DeviceQuery():
            return json.dumps(fields)
        case _:
            assert_never(task)


def from_json(text: str) -> Task:
    """Return the task that ``to_json`` wrote."""
    fields = json.loads(text)
    kind = fields.pop("kind")
    if "program" in fields:
        fields["program"] = Program.from_json(fields["program"])
    if kind == RunTask.__name__:
        return RunTask(**fields | {"samples": tuple(fields["samples"])})
    return MeasureTask(**fields) if kind == MeasureTask.__name__ else DeviceQuery(**fields)


def device_model_of(board: Mapping[str, Any]) -> str:
    """Return what identifies a kind of board: times of two boards with the same are comparable.

    ``board`` is the board's information. Revisions of a board differ in other things than speed.
    """
    model = re.sub(r"\s+Rev\b.*", "", board.get("model") or "")
    return ", ".join(name for name in (board.get("processor") or board["machine"], model) if name)


@dataclass(frozen=True, slots=True)
class RunConfig:
    """How a program is run: on how many threads, and how often it is timed."""

    threads: int = 1
    repeat: int = 30


def run_task_of(
    directory: Path, program: Program, machine: str, samples: tuple[str, ...], config: RunConfig
) -> RunTask:
    """Return the task to run the ``program`` in an output ``directory``."""
    return RunTask(machine, str(directory), program, samples, config.threads, config.repeat)
