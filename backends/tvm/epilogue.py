"""What becomes of an accumulator before it leaves the registers.

    code = clip(round_half_even(float32(acc) * factor) + zero_point, low, high)
    y    = code                                                    or, with a residual r,
    y    = clip(code - z_code + r - z_r + z_y, low_y, high_y)      all of one scale

so that a convolution followed by an addition writes the sum alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.layout import Layout
from gmpq.backends.tvm.script import (
    ROUNDER_BITS,
    Buffer,
    Expr,
    cast,
    load,
    rounded,
    splat,
    store,
    to_codes,
    view,
)
from gmpq.ir import QParams

Pixel: TypeAlias = tuple[Expr, Expr, Expr]  # image, row, column


@dataclass(frozen=True, slots=True)
class Residual:
    """The other term of an addition that follows, and the sum's codes."""

    layout: Layout
    q: QParams
    total: QParams


@dataclass(frozen=True, slots=True)
class Finish:
    """What to do with the accumulators of a layer."""

    y: Layout
    q: QParams  # of the layer's own codes
    residual: Residual | None = None

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

    def scale(self, channel: Expr, lanes: int) -> Expr:
        """Return the factors of ``lanes`` channels."""
        return load(self.factor, channel, lanes)

    def put(self, acc: Expr, scale: Expr, pixel: Pixel, channel: Expr, lanes: int) -> None:
        """Finish and store the accumulators of ``lanes`` channels of one pixel."""
        q, residual = self.finish.q, self.finish.residual
        steps = cast("float32", lanes, acc) * scale
        if residual is None:
            codes = to_codes(steps, q, lanes)
        else:
            assert self.residual is not None
            place = place_of(residual.layout, pixel, channel)
            term = cast("int32", lanes, load(self.residual, place, lanes))
            codes = _sum(rounded(steps, q, lanes), term, residual, lanes)
        store(self.y, place_of(self.finish.y, pixel, channel), codes, lanes)


def _sum(pattern: Expr, term: Expr, residual: Residual, lanes: int) -> Expr:
    """Return the codes of the sum; ``pattern`` is the layer's code, less its zero point."""
    total = residual.total
    constant = total.zero_point - residual.q.zero_point - ROUNDER_BITS
    codes = pattern + term + splat(T.int32(constant), lanes)
    low, high = splat(T.int32(total.low), lanes), splat(T.int32(total.high), lanes)
    return cast("uint8", lanes, T.max(T.min(codes, high), low))


def place_of(layout: Layout, pixel: Pixel, channel: Expr) -> Expr:
    """Return where a channel of a pixel lies."""
    image, row, column = pixel
    inside = image * layout.image + row * layout.row + column * layout.stored
    return layout.origin + inside + channel
