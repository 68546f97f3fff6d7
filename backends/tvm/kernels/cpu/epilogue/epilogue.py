"""What becomes of accumulators before they leave the registers.

    code = clip(round_half_even(float32(acc) * factor) + zero_point, low, high)
    y    = code                                                    or, with a residual r,
    y    = clip(code - z_code + r - z_r + z_y, low_y, high_y)      all of one scale

so that a convolution followed by an addition writes the sum alone. What is stored are these codes,
requantized copies of them, or both. At a network's output there may be no codes, and
``float32(acc) * factor`` is stored as it is. Where ``narrowing`` is proven and the target has its
instructions, four vectors become codes together, whichever pixels they are of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.kernels.cpu.epilogue.accumulators import (
    Pixel,
    PixelRun,
    PixelSums,
    VectorGroup,
    place_of,
    vector_groups,
)
from gmpq.backends.tvm.kernels.cpu.epilogue.narrowing import TOGETHER, in_order, narrowed
from gmpq.backends.tvm.kernels.cpu.epilogue.requantized_copy import RequantizedCopy
from gmpq.backends.tvm.kernels.cpu.epilogue.residual import Residual
from gmpq.backends.tvm.kernels.cpu.isa.builder import (
    Buffer,
    Expr,
    cast,
    in_registers,
    load,
    prefetch,
    store,
    to_codes,
    view,
)
from gmpq.backends.tvm.kernels.layout import Layout
from gmpq.ir import QParams

Parameter: TypeAlias = tuple[str, str]  # name and element type of a pointer


@dataclass(frozen=True, slots=True)
class EpilogueOutput:
    """What a kernel stores: a layer's codes, a copy of them, or a layer's float32 values."""

    layout: Layout
    copy: RequantizedCopy | None = None


@dataclass(frozen=True, slots=True)
class Epilogue:
    """How the accumulators of a layer become what is stored: requantization, residual, copies."""

    outputs: tuple[EpilogueOutput, ...]
    q: QParams | None  # of the layer's own codes; None where it has one output, of float32
    residual: Residual | None = None
    narrowed_lanes: int | None = None  # of a vector, where four are narrowed to codes together

    def parameters(self, x: Parameter, constants: Sequence[Parameter]) -> tuple[Parameter, ...]:
        """Return the C parameters of a kernel."""
        terms = [("residual", "uint8")] if self.residual else []
        results = [(f"y{i}", self.dtype) for i in range(len(self.outputs))]
        return (x, *terms, *constants, *results)

    @property
    def dtype(self) -> str:
        """Type of what is stored."""
        return "float32" if self.q is None else "uint8"

    def split(self, pointers: Sequence[Expr]) -> tuple[Sequence[Expr], EpilogueArgs]:
        """Return the constants among the pointers after x, and the rest."""
        first, last = 1 if self.residual else 0, len(pointers) - len(self.outputs)
        return pointers[first:last], EpilogueArgs(self, pointers[:first], pointers[last:])


@dataclass(frozen=True, slots=True, eq=False)
class EpilogueArgs:
    """An epilogue with the pointers that it needs."""

    epilogue: Epilogue
    terms: Sequence[Expr]
    outputs: Sequence[Expr]

    def bind(self, factor: Expr, channels: int) -> BoundEpilogue:
        """Return the epilogue with the memory behind its pointers; ``factor`` has ``channels``."""
        return BoundEpilogue(self.results(), view(factor, "float32", channels))

    def results(self) -> BoundResults:
        """Return the memory of what follows the requantization."""
        epilogue, residual = self.epilogue, None
        if epilogue.residual is not None:
            residual = view(self.terms[0], "uint8", epilogue.residual.layout.size_bytes)
        outputs = [
            view(pointer, epilogue.dtype, output.layout.size)
            for pointer, output in zip(self.outputs, epilogue.outputs, strict=True)
        ]
        return BoundResults(epilogue, residual, outputs)


@dataclass(frozen=True, slots=True)
class BoundResults:
    """What follows the requantization, with its memory: the residual, copies, stores."""

    epilogue: Epilogue
    residual: Buffer | None
    outputs: Sequence[Buffer]

    def store(self, group: VectorGroup, codes: Expr) -> None:
        """Add the residual to a layer's own ``codes``; store the sum and its copies."""
        (codes,) = in_registers([codes])
        if self.epilogue.residual is not None:
            assert self.epilogue.q is not None, "sums are of codes"
            term = self._term(group, self.epilogue.residual.layout)
            total = self.epilogue.residual.sum(codes, self.epilogue.q, term, group.size)
            (codes,) = in_registers([total])
        for output, memory in zip(self.epilogue.outputs, self.outputs, strict=True):
            found = codes
            if output.copy is not None:
                (found,) = in_registers([output.copy.codes(codes, group.size)])
            for run in group.runs_in(output.layout):
                _store(memory, group.place(output.layout, run), found, group, run)

    def prefetch(self, pixels: Sequence[Pixel], channel: Expr) -> None:
        """Ask for the cache lines of ``pixels`` at ``channel`` in all that is read and written."""
        epilogue = self.epilogue
        layouts = [output.layout for output in epilogue.outputs]
        sides = list(zip(self.outputs, layouts, strict=True))
        if epilogue.residual is not None:
            sides.append((self.residual, epilogue.residual.layout))
        for (memory, layout), pixel in product(sides, pixels):
            prefetch(memory, place_of(pixel, layout) + channel)

    def _term(self, group: VectorGroup, layout: Layout) -> Expr:
        """Return the residual's codes, over again for the missing vectors of a group."""
        runs = group.runs_in(layout)
        parts = [
            load(self.residual, group.place(layout, run), run.count * group.lanes) for run in runs
        ]
        again = -(-group.together // sum(run.count for run in runs))
        if len(parts) * again == 1:
            return parts[0]
        return T.Shuffle(parts * again, list(range(group.size)))


@dataclass(frozen=True, slots=True)
class BoundEpilogue:
    """An epilogue with its memory."""

    results: BoundResults
    factor: Buffer

    def store(self, sums: Sequence[PixelSums], channel: Expr, lanes: int) -> None:
        """Requantize and store accumulators of pixels whose channels begin at ``channel``."""
        epilogue = self.results.epilogue
        together = TOGETHER if lanes == epilogue.narrowed_lanes else 1
        for group in vector_groups(sums, channel, lanes, together):
            steps, q = self._steps(group), epilogue.q
            self.results.store(group, steps[0] if q is None else _codes(steps, group, q))

    def _steps(self, group: VectorGroup) -> list[Expr]:
        """Return the rescaled accumulators of each vector."""
        lanes = group.lanes
        return in_registers(
            [
                cast("float32", lanes, acc) * load(self.factor, channel, lanes)
                for acc, channel in group.vectors
            ]
        )


def _codes(steps: list[Expr], group: VectorGroup, q: QParams) -> Expr:
    """Return a layer's own codes."""
    if group.together == 1:
        return to_codes(steps[0], q, group.lanes)
    four = [steps[i % len(steps)] for i in range(TOGETHER)]
    return in_order(narrowed(four, q, group.lanes), group.lanes)


def _store(memory: Buffer, place: Expr, codes: Expr, group: VectorGroup, run: PixelRun) -> None:
    """Store the codes of one run of a group."""
    first, count, kept = run.place * group.lanes, run.count * group.lanes, run.sums.kept
    if count < group.size:
        codes = T.Shuffle([codes], list(range(first, first + count)))
    if kept is None:
        store(memory, place, codes, count)
    else:
        with T.If(kept), T.Then():
            store(memory, place, codes, count)
