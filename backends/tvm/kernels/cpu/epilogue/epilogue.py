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
from typing import TypeAlias

from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.kernels.cpu.epilogue.accumulators import Group, PixelSums, Run, groups_of
from gmpq.backends.tvm.kernels.cpu.epilogue.narrowing import TOGETHER, in_order, packed
from gmpq.backends.tvm.kernels.cpu.epilogue.requantized_copy import Copy
from gmpq.backends.tvm.kernels.cpu.epilogue.residual import Residual
from gmpq.backends.tvm.kernels.cpu.isa.builder import (
    Buffer,
    Expr,
    cast,
    held,
    load,
    store,
    to_codes,
    view,
)
from gmpq.backends.tvm.kernels.layout import Layout
from gmpq.ir import QParams

Parameter: TypeAlias = tuple[str, str]  # name and element type of a pointer


@dataclass(frozen=True, slots=True)
class Output:
    """What a kernel stores: a layer's codes, a copy of them, or a layer's float32 values."""

    layout: Layout
    copy: Copy | None = None


@dataclass(frozen=True, slots=True)
class Finish:
    """What to do with the accumulators of a layer."""

    outputs: tuple[Output, ...]
    q: QParams | None  # of the layer's own codes; None where it has one output, of float32
    residual: Residual | None = None
    packed_lanes: int | None = None  # of a vector, where four become codes together

    def parameters(self, x: Parameter, constants: Sequence[Parameter]) -> tuple[Parameter, ...]:
        """Return the C parameters of a kernel."""
        terms = [("residual", "uint8")] if self.residual else []
        results = [(f"y{i}", self.dtype) for i in range(len(self.outputs))]
        return (x, *terms, *constants, *results)

    @property
    def dtype(self) -> str:
        """Type of what is stored."""
        return "float32" if self.q is None else "uint8"

    def split(self, pointers: Sequence[Expr]) -> tuple[Sequence[Expr], Ends]:
        """Return the constants among the pointers after x, and the rest."""
        first, last = 1 if self.residual else 0, len(pointers) - len(self.outputs)
        return pointers[first:last], Ends(self, pointers[:first], pointers[last:])


@dataclass(frozen=True, slots=True, eq=False)
class Ends:
    """A finish with the pointers that it needs."""

    finish: Finish
    terms: Sequence[Expr]
    outputs: Sequence[Expr]

    def bind(self, factor: Expr, channels: int) -> Bound:
        """Return the finish with the memory behind its pointers; ``factor`` is of ``channels``."""
        finish, residual = self.finish, None
        if finish.residual is not None:
            residual = view(self.terms[0], "uint8", finish.residual.layout.size_bytes)
        outputs = [
            view(pointer, finish.dtype, output.layout.size)
            for pointer, output in zip(self.outputs, finish.outputs, strict=True)
        ]
        return Bound(finish, view(factor, "float32", channels), residual, outputs)


@dataclass(frozen=True, slots=True)
class Bound:
    """A finish with its memory."""

    finish: Finish
    factor: Buffer
    residual: Buffer | None
    outputs: Sequence[Buffer]

    def put(self, sums: Sequence[PixelSums], channel: Expr, lanes: int) -> None:
        """Finish and store the accumulators of pixels whose channels begin at ``channel``."""
        q = self.finish.q
        together = TOGETHER if lanes == self.finish.packed_lanes else 1
        for group in groups_of(sums, channel, lanes, together):
            steps = self._steps(group)
            (codes,) = held([steps[0] if q is None else _codes(steps, group, q)])
            if self.finish.residual is not None:
                assert q is not None, "sums are of codes"
                term = self._term(group, self.finish.residual.layout)
                (codes,) = held([self.finish.residual.sum(codes, q, term, group.size)])
            for output, memory in zip(self.finish.outputs, self.outputs, strict=True):
                found = codes
                if output.copy is not None:
                    (found,) = held([output.copy.codes(codes, group.size)])
                for run in group.runs:
                    _store(memory, group.place(output.layout, run), found, group, run)

    def _steps(self, group: Group) -> list[Expr]:
        """Return the rescaled accumulators of each vector."""
        lanes = group.lanes
        return held(
            [
                cast("float32", lanes, acc) * load(self.factor, channel, lanes)
                for acc, channel in group.vectors
            ]
        )

    def _term(self, group: Group, layout: Layout) -> Expr:
        """Return the residual's codes, over again for the missing vectors of a group."""
        runs = group.runs
        parts = [
            load(self.residual, group.place(layout, run), run.count * group.lanes) for run in runs
        ]
        again = -(-group.together // sum(run.count for run in runs))
        if len(parts) * again == 1:
            return parts[0]
        return T.Shuffle(parts * again, list(range(group.size)))


def _codes(steps: list[Expr], group: Group, q: QParams) -> Expr:
    """Return a layer's own codes."""
    if group.together == 1:
        return to_codes(steps[0], q, group.lanes)
    four = [steps[i % len(steps)] for i in range(TOGETHER)]
    return in_order(packed(four, q, group.lanes), group.lanes)


def _store(memory: Buffer, place: Expr, codes: Expr, group: Group, run: Run) -> None:
    """Store the codes of one run of a group."""
    first, count, kept = run.place * group.lanes, run.count * group.lanes, run.sums.kept
    if count < group.size:
        codes = T.Shuffle([codes], list(range(first, first + count)))
    if kept is None:
        store(memory, place, codes, count)
    else:
        with T.If(kept), T.Then():
            store(memory, place, codes, count)
