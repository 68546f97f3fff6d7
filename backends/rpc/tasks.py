"""What a board is asked to do, and what is heard of it.

A task goes to a process of its own (``worker.py``), which tells what happens as one JSON object per
line; so whatever becomes of the board, what it told before remains.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from gmpq.program import PREFIX


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of the workspace."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Job:
    """A program to run on a board.

    Each file of ``samples`` holds the bytes of all inputs of a run. The values of that run, parts
    step by step and then the outputs, go into one file too.
    """

    machine: str  # that the library is for, as uname names it
    library: str
    params: str
    params_bytes: int
    workspace_bytes: int
    parts: tuple[tuple[Part, ...], ...]  # by step: what it leaves in the workspace
    input_bytes: tuple[int, ...]
    output_bytes: tuple[int, ...]
    samples: tuple[str, ...]
    threads: int
    repeat: int  # timed runs of the network, and of every step
    prefix: str = PREFIX  # of the functions in the library

    @property
    def steps(self) -> int:
        """How many steps the program has."""
        return len(self.parts)


@dataclass(frozen=True, slots=True)
class Trial:
    """A program without inputs and outputs, whose steps are timed in turn.

    Times are worth something on real boards alone, and only beside those of their ``likeness``.
    """

    machine: str
    likeness: str  # of the board
    library: str
    params: str
    params_bytes: int
    workspace_bytes: int
    steps: int
    threads: int
    rounds: int
    others_bytes: int  # read before every timed step
    prefix: str = PREFIX


@dataclass(frozen=True, slots=True)
class Inquiry:
    """The question what a board is, whose times are wanted."""

    machine: str


Task: TypeAlias = Job | Trial | Inquiry
KINDS: dict[str, type[Trial] | type[Inquiry]] = {"trial": Trial, "inquiry": Inquiry}


def to_json(task: Task) -> str:
    """Return the task as one line."""
    return json.dumps({"kind": type(task).__name__.lower(), **asdict(task)})


def from_json(text: str) -> Task:
    """Return the task that ``to_json`` wrote."""
    fields = json.loads(text)
    kind = fields.pop("kind")
    if kind in KINDS:
        return KINDS[kind](**fields)
    parts = tuple(tuple(Part(**part) for part in step) for step in fields.pop("parts"))
    listed = ("input_bytes", "output_bytes", "samples")
    return Job(parts=parts, **fields | {name: tuple(fields[name]) for name in listed})


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
    directory: Path,
    program: Mapping[str, Any],
    machine: str,
    samples: tuple[str, ...],
    effort: Effort,
) -> Job:
    """Return the job to run the ``program`` in an output ``directory``."""
    parts = (
        tuple(
            Part(value["offset"], span_of(value)) for value in step["outputs"] if "offset" in value
        )
        for step in program["steps"]
    )
    return Job(
        machine=machine,
        library=str(directory / "model.so"),
        params=str(directory / "params.bin"),
        params_bytes=program["params_bytes"],
        workspace_bytes=program["workspace_bytes"],
        parts=tuple(parts),
        input_bytes=tuple(4 * math.prod(end["shape"]) for end in program["inputs"]),
        output_bytes=tuple(4 * math.prod(end["shape"]) for end in program["outputs"]),
        samples=samples,
        threads=effort.threads,
        repeat=effort.repeat,
        prefix=program.get("prefix", PREFIX),
    )


def span_of(value: Mapping[str, Any]) -> int:
    """Return how many bytes of the workspace lie between the ends of a value, and at them."""
    sides = zip(value["shape"], value["strides"], strict=True)
    return 1 + sum((int(side) - 1) * int(stride) for side, stride in sides)
