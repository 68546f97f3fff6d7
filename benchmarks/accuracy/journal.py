"""What a study has found so far, in a file of a line per task: a stopped study goes on from it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import torch

from accuracy.plan import Cell
from accuracy.policies import Bits, Policies, Work, choose, train_float
from accuracy.tuning import key, tune
from gmpq.policy import LayerBits


@dataclass(frozen=True, slots=True)
class Task:
    """The first half of a cell, or the finetuning of one policy on it."""

    work: Work
    bits: Bits | None = None

    @property
    def name(self) -> str:
        """What the task is called in the journal."""
        return name_of(self.work.cell, self.bits)


def name_of(cell: Cell, bits: Mapping[str, LayerBits] | None = None) -> str:
    """Return the name of the first half of a cell, or of the finetuning of ``bits``."""
    return f"{cell.name}/{'float' if bits is None else key(bits)}"


@dataclass(frozen=True, slots=True)
class Journal:
    """The file and what it says, by task."""

    path: Path
    found: dict[str, dict[str, Any]]

    @classmethod
    def open(cls, path: Path) -> Journal:
        """Return the journal in ``path``; an empty one if there is no such file."""
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        return cls(path, {row["task"]: row for row in map(json.loads, lines)})

    def add(self, row: dict[str, Any]) -> None:
        """Write down what a task found."""
        self.found[row["task"]] = row
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def policies(self, cell: Cell) -> dict[str, Policies]:
        """Return the policies of a cell by method and level."""
        return {
            method: {int(n): _bits(bits) for n, bits in levels.items()}
            for method, levels in self.found[name_of(cell)]["policies"].items()
        }

    def accuracy(self, cell: Cell, bits: Mapping[str, LayerBits]) -> float:
        """Return what the finetuned network of ``cell`` reached at ``bits``."""
        return float(self.found[name_of(cell, bits)]["accuracy"])


def run(tasks: Iterable[Task], journal: Journal, pool: ProcessPoolExecutor) -> None:
    """Do all tasks that the journal does not have yet."""
    missing = {task.name: task for task in tasks if task.name not in journal.found}
    running = {pool.submit(do, task) for task in missing.values()}
    for number, future in enumerate(as_completed(running), 1):
        row = future.result()
        journal.add(row)
        figures = f"{row['accuracy']:.2%} in {row['seconds']:.0f} s"
        click.echo(f"{number} of {len(running)}: {row['task']}: {figures}", err=True)


def workers(count: int) -> ProcessPoolExecutor:
    """Return processes of one thread each."""
    return ProcessPoolExecutor(count, get_context("spawn"), initializer=_one_thread)


def do(task: Task) -> dict[str, Any]:
    """Return what ``task`` finds, ready for the journal; seconds are of one thread."""
    start = time.perf_counter()
    if task.bits is not None:
        found: dict[str, Any] = {"accuracy": tune(task.work, task.bits)}
    else:
        accuracy = train_float(task.work)
        found = {"accuracy": accuracy, "float_seconds": time.perf_counter() - start}
        found |= choose(task.work)
        found["policies"] = {m: plain(levels) for m, levels in found["policies"].items()}
    return {"task": task.name, "seconds": time.perf_counter() - start, **found}


def plain(levels: Policies) -> dict[str, dict[str, tuple[int, int]]]:
    """Return policies as JSON holds them."""
    return {
        str(n): {name: (each.w, each.a) for name, each in bits.items()}
        for n, bits in levels.items()
    }


def _one_thread() -> None:
    torch.set_num_threads(1)


def _bits(held: Mapping[str, tuple[int, int]]) -> Bits:
    return {name: LayerBits(w, a) for name, (w, a) in held.items()}
