"""Do all programs compute the same codes? Every quantized tensor of every backend is compared.

The reference interpreter is what the others must equal. Exceptions, each by its own rounding in
onnxruntime and each of at most one step:

- average pooling, at every optimization level;
- where onnxruntime runs float kernels (levels "disabled" and "basic"), one value in 10,000 of the
  whole network. There each node reads the reference's codes, so no difference travels on.

At the other levels each node after an average pooling is expected to compute what the reference
makes of the codes that onnxruntime itself gave the node. Final outputs are compared by
``gmpq.artifact.output_parity``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

import numpy as np

from gmpq import table
from gmpq.artifact.output_parity import OutputComparison
from gmpq.backends.base import Tensor
from gmpq.ir import AvgPool, IntGraph


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What may differ: at most ``steps`` each, in at most ``share`` of a level's values."""

    steps: int = 0
    share: float = 0.0
    reason: str = ""


EXACT = Tolerance()
FLOAT_KERNELS = Tolerance(1, 1e-4, "onnxruntime runs float kernels at this level")
AVERAGE_POOLING = Tolerance(1, 1.0, "onnxruntime rounds average pooling its own way")


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Codes of one run of one program, by value; ``level`` is empty where there is one only."""

    backend: str
    level: str
    codes: Mapping[str, Tensor]
    tolerance: Tolerance = EXACT


@dataclass(frozen=True, slots=True)
class Comparison:
    """One tensor of one program against the reference."""

    backend: str
    level: str
    tensor: str
    compared: int
    different: int
    max_abs: int
    tolerance: Tolerance

    def joined(self, other: Comparison) -> Comparison:
        """Return the comparison of this run and another one together."""
        return Comparison(
            self.backend,
            self.level,
            self.tensor,
            self.compared + other.compared,
            self.different + other.different,
            max(self.max_abs, other.max_abs),
            self.tolerance,
        )

    def __str__(self) -> str:
        """Return as text what differs."""
        return (
            f"tensor {self.tensor} in {f'{self.backend} {self.level}'.strip()}: {self.different} "
            f"of {self.compared} values differ, by at most {self.max_abs}"
        )


@dataclass(frozen=True, slots=True)
class Parity:
    """All comparisons in execution order of ``tensors``, which are all tensors of codes.

    ``outputs`` are those of the programs' outputs, by position; ``skipped`` says why a backend did
    not run.
    """

    tensors: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    outputs: tuple[OutputComparison, ...]
    skipped: Mapping[str, str]

    @property
    def first_divergence(self) -> Comparison | OutputComparison | None:
        """The first tensor that differs by more than is tolerated, else the first such output."""
        tensors = (c for level in self.levels().values() for c in _failures(level))
        outputs = (output for output in self.outputs if not output.equal)
        return next(tensors, None) or next(outputs, None)

    @property
    def equal(self) -> bool:
        """Whether nothing differs by more than is tolerated."""
        return self.first_divergence is None

    def levels(self) -> dict[tuple[str, str], list[Comparison]]:
        """Return the comparisons by backend and level."""
        found: dict[tuple[str, str], list[Comparison]] = {}
        for comparison in self.comparisons:
            found.setdefault((comparison.backend, comparison.level), []).append(comparison)
        return found

    def inside_kernels(self) -> dict[str, list[str]]:
        """Return the tensors that a backend never writes, since one kernel makes and reads them."""
        found = {}
        for (backend, level), comparisons in self.levels().items():
            written = {comparison.tensor for comparison in comparisons}
            hidden = [name for name in self.tensors if name not in written]
            if hidden:
                found[f"{backend} {level}".strip()] = hidden
        return found


def codes_of(graph: IntGraph) -> tuple[str, ...]:
    """Return the names of all tensors of codes, in execution order."""
    return tuple(node.output for node in graph.nodes if graph.values[node.output].q is not None)


def compare(graph: IntGraph, expected: Mapping[str, Tensor], trace: Trace) -> list[Comparison]:
    """Return how each tensor of codes in ``trace`` differs from ``expected``.

    Codes are uint8, in the graph's shapes. A program may keep a tensor inside a kernel, but not one
    that a network's output is read from.
    """
    last = {source for name in graph.outputs for source in _sources(graph, name)}
    assert last <= trace.codes.keys(), f"{trace.backend} hides {last - trace.codes.keys()}"
    averages = {node.output for node in graph.nodes if isinstance(node, AvgPool)}
    ours = trace.backend == "onnxruntime"
    return [
        _compare(
            name,
            expected[name],
            trace,
            AVERAGE_POOLING if ours and name in averages else trace.tolerance,
        )
        for name in codes_of(graph)
        if name in trace.codes
    ]


def gather(
    graph: IntGraph,
    runs: Iterable[Sequence[Comparison]],
    outputs: Iterable[Sequence[OutputComparison]],
    skipped: Mapping[str, str],
) -> Parity:
    """Return the parity of the programs of ``graph`` over the comparisons of several inputs."""
    joined: dict[tuple[str, str, str], Comparison] = {}
    for found in chain.from_iterable(runs):
        key = (found.backend, found.level, found.tensor)
        joined[key] = joined[key].joined(found) if key in joined else found
    returned: dict[tuple[str, str, int], OutputComparison] = {}
    for output in chain.from_iterable(outputs):
        place = (output.backend, output.level, output.position)
        returned[place] = returned[place].joined(output) if place in returned else output
    return Parity(codes_of(graph), tuple(joined.values()), tuple(returned.values()), skipped)


def depends_on_average(graph: IntGraph) -> frozenset[str]:
    """Return the values that an average pooling has an influence on."""
    reached: set[str] = set()
    for node in graph.nodes:
        if isinstance(node, AvgPool) or reached.intersection(node.inputs):
            reached.add(node.output)
    return frozenset(reached)


def to_json(parity: Parity) -> dict[str, Any]:
    """Return the content of ``parity.json``."""
    first = parity.first_divergence
    return {
        "verdict": "equal" if parity.equal else "different",
        "first_divergence": None if first is None else asdict(first),
        "not_run": dict(parity.skipped),
        "inside_kernels": parity.inside_kernels(),
        "tensors": [asdict(comparison) for comparison in parity.comparisons],
        "outputs": [asdict(output) for output in parity.outputs],
    }


def to_table(parity: Parity) -> str:
    """Return a line per backend and level as text, and the first divergence if there is one."""
    header = ("backend", "level", "tensors", "values", "different", "max", "outputs", "verdict")
    rows = [_row(parity, *place, found) for place, found in parity.levels().items()]
    lines = [table.render(header, rows)]
    lines += [f"not run: {backend}: {reason}" for backend, reason in parity.skipped.items()]
    first = parity.first_divergence
    if first is not None:
        lines.append(f"first divergence: {first}")
    return "\n".join(lines)


def _row(parity: Parity, backend: str, level: str, found: Sequence[Comparison]) -> tuple[str, ...]:
    outputs = [each for each in parity.outputs if (each.backend, each.level) == (backend, level)]
    equal = all(each.equal for each in outputs) and not any(_failures(found))
    return (
        backend,
        level,
        f"{len(found)} of {len(parity.tensors)}",
        table.count(sum(c.compared for c in found)),
        table.count(sum(c.different for c in found)),
        str(max(c.max_abs for c in found)),
        f"{sum(each.equal for each in outputs)} of {len(outputs)}" if outputs else "",
        _tolerated(found) if equal else "DIFFERENT",
    )


def _sources(graph: IntGraph, output: str) -> tuple[str, ...]:
    node = graph.producer(output)
    names = () if node is None else node.inputs
    return tuple(name for name in names if graph.values[name].q is not None)


def _compare(name: str, expected: Tensor, trace: Trace, tolerance: Tolerance) -> Comparison:
    found = trace.codes[name]
    assert found.shape == expected.shape, f"{trace.backend} writes {name} in another shape"
    gap = np.abs(found.astype(np.int16) - expected.astype(np.int16))
    different = int(np.count_nonzero(gap))
    largest = int(gap.max(initial=0))
    return Comparison(
        trace.backend, trace.level, name, expected.size, different, largest, tolerance
    )


def _failures(level: Sequence[Comparison]) -> Iterator[Comparison]:
    """Yield what differs by more than is tolerated among the comparisons of one level."""
    for tolerance in dict.fromkeys(comparison.tolerance for comparison in level):
        alike = [comparison for comparison in level if comparison.tolerance == tolerance]
        allowed = math.ceil(tolerance.share * sum(comparison.compared for comparison in alike))
        too_many = sum(comparison.different for comparison in alike) > allowed
        for comparison in alike:
            if comparison.max_abs > tolerance.steps or (too_many and comparison.different):
                yield comparison


def _tolerated(level: Sequence[Comparison]) -> str:
    return "within 1 step" if any(comparison.different for comparison in level) else "equal"
