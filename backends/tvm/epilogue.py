"""What becomes of accumulators before they leave the registers.

    code = clip(round_half_even(float32(acc) * factor) + zero_point, low, high)
    y    = code                                                    or, with a residual r,
    y    = clip(code - z_code + r - z_r + z_y, low_y, high_y)      all of one scale

so that a convolution followed by an addition writes the sum alone. Where ``packing`` is proven and
the target has its instructions, four vectors become codes together, whichever pixels they are of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.groups import Group, PixelSums, Run, groups_of
from gmpq.backends.tvm.layout import Layout
from gmpq.backends.tvm.packing import TOGETHER, in_order, packed
from gmpq.backends.tvm.residual import Residual
from gmpq.backends.tvm.script import (
    Buffer,
    Expr,
    cast,
    held,
    load,
    store,
    to_codes,
    view,
)
from gmpq.ir import QParams


@dataclass(frozen=True, slots=True)
class Finish:
    """What to do with the accumulators of a layer."""

    y: Layout
    q: QParams  # of the layer's own codes
    residual: Residual | None = None
    packed_lanes: int | None = None  # of a vector, where four become codes together

    @property
    def inputs(self) -> tuple[tuple[str, str], ...]:
        """Names and element types of the C parameters that hold further inputs."""
        return (("residual", "uint8"),) if self.residual else ()

    def bind(self, inputs: Sequence[Expr], factor: Expr, y: Expr, channels: int) -> Bound:
        """Return the finish with the memory behind its pointers; ``factor`` is of ``channels``."""
        residual = None
        if self.residual is not None:
            residual = view(inputs[0], "uint8", self.residual.layout.size_bytes)
        factors = view(factor, "float32", channels)
        return Bound(self, factors, residual, view(y, "uint8", self.y.size_bytes))


@dataclass(frozen=True, slots=True)
class Bound:
    """A finish with its memory."""

    finish: Finish
    factor: Buffer
    residual: Buffer | None
    y: Buffer

    def put(self, sums: Sequence[PixelSums], channel: Expr, lanes: int) -> None:
        """Finish and store the accumulators of pixels whose channels begin at ``channel``."""
        together = TOGETHER if lanes == self.finish.packed_lanes else 1
        for group in groups_of(sums, channel, lanes, together):
            (codes,) = held([self._codes(group)])
            if self.finish.residual is not None:
                term = self._term(group, self.finish.residual.layout)
                (codes,) = held([self.finish.residual.sum(codes, self.finish.q, term, group.size)])
            for run in group.runs:
                self._store(group, run, codes)

    def _codes(self, group: Group) -> Expr:
        """Return the layer's own codes."""
        lanes, q = group.lanes, self.finish.q
        steps = held(
            [
                cast("float32", lanes, acc) * load(self.factor, channel, lanes)
                for acc, channel in group.vectors
            ]
        )
        if group.together == 1:
            return to_codes(steps[0], q, lanes)
        four = [steps[i % len(steps)] for i in range(TOGETHER)]
        return in_order(packed(four, q, lanes), lanes)

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

    def _store(self, group: Group, run: Run, codes: Expr) -> None:
        first, count = run.place * group.lanes, run.count * group.lanes
        if count < group.size:
            codes = T.Shuffle([codes], list(range(first, first + count)))
        place, kept = group.place(self.finish.y, run), run.sums.kept
        if kept is None:
            store(self.y, place, codes, count)
        else:
            with T.If(kept), T.Then():
                store(self.y, place, codes, count)
