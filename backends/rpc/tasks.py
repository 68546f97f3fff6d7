"""What a board is asked to do, and what is heard of it.

A task goes to a process of its own (``worker.py``), which tells what happens as one JSON object per
line; so whatever becomes of the board, what it told before remains.
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
class Job:
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
class Trial:
    """A program without inputs and outputs, whose steps are timed in turn.

    Times are worth something on real boards alone, and only beside those of their ``likeness``.
    """

    machine: str
    likeness: str  # of the board
    directory: str
    program: Program
    threads: int
    rounds: int
    flush_bytes: int  # read before every timed step


@dataclass(frozen=True, slots=True)
class Inquiry:
    """The question what a board is, whose times are wanted."""

    machine: str


Task: TypeAlias = Job | Trial | Inquiry


def to_json(task: Task) -> str:
    """Return the task as one line."""
    fields = {"kind": type(task).__name__, **asdict(task)}
    match task:
        case Job() | Trial():
            return json.dumps({**fields, "program": task.program.to_json()})
        case Inquiry():
            return json.dumps(fields)
        case _:
            assert_never(task)


def from_json(text: str) -> Task:
    """Return the task that ``to_json`` wrote."""
    fields = json.loads(text)
    kind = fields.pop("kind")
    if "program" in fields:
        fields["program"] = Program.from_json(fields["program"])
    if kind == Job.__name__:
        return Job(**fields | {"samples": tuple(fields["samples"])})
    return Trial(**fields) if kind == Trial.__name__ else Inquiry(**fields)


def likeness_of(board: Mapping[str, Any]) -> str:
    """Return what times depend on, of all that a board says about itself: boards of it are alike.

    Revisions of a board differ in other things.
    """
    model = re.sub(r"\s+Rev\b.*", "", board.get("model") or "")
    return ", ".join(name for name in (board.get("processor") or board["machine"], model) if name)


@dataclass(frozen=True, slots=True)
class Effort:
    """How a program is run: on how many threads, and how often it is timed."""

    threads: int = 1
    repeat: int = 30


def job_of(
    directory: Path, program: Program, machine: str, samples: tuple[str, ...], effort: Effort
) -> Job:
    """Return the job to run the ``program`` in an output ``directory``."""
    return Job(machine, str(directory), program, samples, effort.threads, effort.repeat)
