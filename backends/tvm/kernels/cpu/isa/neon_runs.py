"""How many products provably fit narrow lanes: the runs between two widenings.

A step multiplies sixteen codes with sixteen weights. Sums in int8 have a lane per product; sums in
int16 have eight lanes, of two products each: the lower and the upper one, or, where they are sums
of int8 lanes, neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from gmpq.backends.tvm.kernels.base import Array
from gmpq.backends.tvm.target.pipeline import PipelineModel

SHORTEST = 4  # steps of a run in int8; below, mul and sadalp cost as much as smull and smlal


class Steps(NamedTuple):
    """Steps of sixteen codes: kernel rows, taps of a row that lie apart, steps of each."""

    rows: int
    columns: int
    depth: int

    @property
    def total(self) -> int:
        """Of all loops together."""
        return self.rows * self.columns * self.depth

    def over(self, run: Steps) -> Steps:
        """Return how many runs there are."""
        return Steps(self.rows // run.rows, self.columns // run.columns, self.depth // run.depth)

    def holds(self, run: Steps) -> bool:
        """Return whether this consists of whole runs."""
        return not any(mine % its for mine, its in zip(self, run, strict=True))

    def runs(self) -> Iterator[Steps]:
        """Yield the runs into which the steps may be cut, the longest first."""
        yield self
        yield Steps(1, self.columns, self.depth)
        for depth in range(self.depth, 0, -1):
            if self.depth % depth == 0:
                yield Steps(1, 1, depth)


@dataclass(frozen=True, slots=True)
class NeonRuns:
    """What the loops of a sum run over, and how long its narrow sums are."""

    bits: int  # of the processor's words, 64 or 32
    steps: Steps
    int16_run: Steps  # a run of int16 sums
    int8_run: Steps | None  # a run of int8 sums within it, if any

    @property
    def instruction(self) -> str:
        """Of a step."""
        return "smull+smlal" if self.int8_run is None else "mla"

    def step_cycles(self, pipeline: PipelineModel, rows: int, channels: int) -> float:
        """Return predicted cycles of one step of ``rows`` x ``channels`` sums, loads included."""
        computing = rows * channels * self._sum_cycles(pipeline)
        return pipeline.waiting * pipeline.step(computing, rows + channels)

    def _sum_cycles(self, pipeline: PipelineModel) -> float:
        """Return the cycles of one step of one sum; smull and smlal take one each."""
        if self.int8_run is None:
            return 2 + pipeline.widened / self.int16_run.total
        widened = 2 / self.int8_run.total + 2 / self.int16_run.total
        return pipeline.bytes_multiplied + pipeline.widened * widened

    def __str__(self) -> str:
        within = "" if self.int8_run is None else f" of {self.int8_run.total} in int8"
        return f"runs of {self.int16_run.total} in int16{within}"


def runs_of(rows: Array, code_range: tuple[Any, Any], bits: int) -> tuple[NeonRuns, ...]:
    """Return the legal runs: without sums in int8, and with them where few bits allow.

    ``rows`` are weights [blocks, rows, columns, depth, channels, 16]; ``code_range`` the lowest and
    the highest code, of all blocks or of each.
    """
    narrow = longest_run(rows, code_range, np.int8)
    inner = (None, narrow) if narrow is not None and narrow.total >= SHORTEST else (None,)
    found = [(longest_run(rows, code_range, np.int16, within), within) for within in inner]
    steps = Steps(*rows.shape[1:4])
    return tuple(NeonRuns(bits, steps, words, within) for words, within in found if words)


def longest_run(
    rows: Array, code_range: tuple[Any, Any], kind: type, within: Steps | None = None
) -> Steps | None:
    """Return the longest run whose sums fit ``kind``, int8 or int16; None if no step's do.

    ``rows``, weights [blocks, rows, columns, depth, channels, 16], and ``code_range`` are those of
    ``runs_of``; sums of ``within`` are int8 sums of such runs.
    """
    whole, inner = Steps(*rows.shape[1:4]), within or Steps(1, 1, 1)
    each = [np.reshape(code, (-1, 1, 1, 1, 1, 1)).astype(np.int32) for code in code_range]
    products = [code * rows.astype(np.int32) for code in each]
    bounds = [_lanes(side(*products), kind, within) for side in (np.minimum, np.maximum)]
    limits = np.iinfo(kind)
    for run in (run for run in whole.runs() if run.holds(inner)):
        least, most = (_sums(bound, whole, run) for bound in bounds)
        if least.min() >= limits.min and most.max() <= limits.max:
            return run
    return None


def _lanes(bound: Array, kind: type, within: Steps | None) -> Array:
    """Return the bounds of the lanes of one step."""
    if kind is np.int8:
        return bound
    lower_upper = (8, 2) if within else (2, 8)
    pairs = bound.reshape(*bound.shape[:-1], *lower_upper)
    sums: Array = pairs.sum(axis=-1 if within else -2)
    return sums


def _sums(bound: Array, whole: Steps, run: Steps) -> Array:
    """Return the sums of the bounds over each run."""
    split = [n for pair in zip(whole.over(run), run, strict=True) for n in pair]
    runs = bound.reshape(len(bound), *split, *bound.shape[4:])
    sums: Array = runs.sum(axis=(2, 4, 6))
    return sums
