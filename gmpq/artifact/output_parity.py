"""Do all programs return the same? The outputs of whole runs are compared by position.

Number, names, shapes, types and values must be the reference's. Every value is compared by its bits
but for probabilities: each program has its own ``exp``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from gmpq.backends.base import Tensor
from gmpq.ir import IntGraph, Softmax
from gmpq.runtime import UNWRITTEN


@dataclass(frozen=True, slots=True)
class Bound:
    """How far a value may be from the reference's; 0 asks for the same bits."""

    max_abs: float = 0.0
    reason: str = ""


SAME_BITS = Bound()
PROBABILITIES = Bound(2e-6, "every program computes the exp of a softmax its own way")


@dataclass(frozen=True, slots=True, eq=False)
class Returned:
    """What one whole run of a program returned, in its order, by the program's names."""

    backend: str
    level: str
    outputs: Sequence[tuple[str, Tensor]]


@dataclass(frozen=True, slots=True)
class OutputComparison:
    """One output of one program against the reference; ``different`` values are out of bounds."""

    backend: str
    level: str
    position: int
    output: str
    compared: int
    different: int
    max_abs: float  # among the finite ones
    problem: str  # what is wrong besides values; empty if nothing is
    bound: Bound

    @property
    def equal(self) -> bool:
        """Whether nothing differs by more than the bound."""
        return not self.problem and not self.different

    def joined(self, other: OutputComparison) -> OutputComparison:
        """Return the comparison of this run and another one together."""
        return OutputComparison(
            self.backend,
            self.level,
            self.position,
            self.output,
            self.compared + other.compared,
            self.different + other.different,
            max(self.max_abs, other.max_abs),
            self.problem or other.problem,
            self.bound,
        )

    def __str__(self) -> str:
        """Return as text what differs."""
        place = f"{self.backend} {self.level}".strip()
        problems = [self.problem] if self.problem else []
        if self.different:
            problems.append(
                f"{self.different} of {self.compared} values differ, by at most {self.max_abs:g}"
            )
        return f"output {self.position} '{self.output}' of {place}: {', '.join(problems)}"


def compare_outputs(
    graph: IntGraph, expected: Mapping[str, Tensor], returned: Returned
) -> list[OutputComparison]:
    """Return how each output in ``returned`` differs from ``expected``, the reference's values.

    Outputs are float32, in the graph's shapes; one of another shape or type differs as a whole.
    """
    found = zip_longest(graph.outputs, returned.outputs)
    return [
        _superfluous(returned, position, pair[0])
        if name is None
        else _compare(returned, position, expected[name], pair, (name, _bound(graph, name)))
        for position, (name, pair) in enumerate(found)
    ]


def _superfluous(returned: Returned, position: int, name: str) -> OutputComparison:
    backend, level = returned.backend, returned.level
    problem = "is not an output of the network"
    return OutputComparison(backend, level, position, name, 0, 0, 0.0, problem, SAME_BITS)


def _compare(
    returned: Returned,
    position: int,
    expected: Tensor,
    pair: tuple[str, Tensor] | None,
    wanted: tuple[str, Bound],
) -> OutputComparison:
    name, bound = wanted
    problem = "; ".join(_problems(name, expected, pair))
    different, largest = expected.size, 0.0
    if pair is not None and _alike(pair[1], expected):
        different, largest = _gaps(pair[1], expected, bound)
    return OutputComparison(
        returned.backend,
        returned.level,
        position,
        name,
        expected.size,
        different,
        largest,
        problem,
        bound,
    )


def _problems(name: str, expected: Tensor, pair: tuple[str, Tensor] | None) -> Iterator[str]:
    if pair is None:
        yield "is missing"
        return
    called, found = pair
    if called != name:
        yield f"is called '{called}'"
    if not _alike(found, expected):
        yield f"is {found.dtype} {list(found.shape)}, not {expected.dtype} {list(expected.shape)}"
    elif unwritten := int(np.count_nonzero(_bits(found) == UNWRITTEN)):
        yield f"{unwritten} values are not written"


def _alike(found: Tensor, expected: Tensor) -> bool:
    return found.shape == expected.shape and found.dtype == expected.dtype


def _gaps(found: Tensor, expected: Tensor, bound: Bound) -> tuple[int, float]:
    """Return how many values are out of bounds, and the largest finite gap."""
    with np.errstate(invalid="ignore", over="ignore"):
        gap = np.abs(found.astype(np.float64) - expected.astype(np.float64))
    outside = ~(gap <= bound.max_abs) if bound.max_abs else _bits(found) != _bits(expected)
    return int(np.count_nonzero(outside)), float(gap[np.isfinite(gap)].max(initial=0.0))


def _bits(array: Tensor) -> NDArray[np.uint32]:
    bits: NDArray[np.uint32] = np.ascontiguousarray(array, np.float32).view(np.uint32)
    return bits


def _bound(graph: IntGraph, output: str) -> Bound:
    """Return how exact an output is: does a softmax reach it as real numbers?"""
    node = graph.producer(output)
    if isinstance(node, Softmax):
        return PROBABILITIES
    reals = [] if node is None else [name for name in node.inputs if not graph.values[name].q]
    return max((_bound(graph, name) for name in reals), key=_width, default=SAME_BITS)


def _width(bound: Bound) -> float:
    return bound.max_abs
