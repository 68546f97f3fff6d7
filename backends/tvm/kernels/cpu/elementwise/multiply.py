"""Products of two tensors of codes, or of an image and a vector of gates.

    y = clip(round_half_even(float32((a - z_a) * (b - z_b)) * factor) + z_y, low, high)

The product of two codes is below 2**16, so that float32 holds it. A row of an image is walked
vector by vector of channels; a gate, which is one pixel, stays in a register along the row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from gmpq import numerics
from gmpq.backends.tvm.kernels.base import Call, Family, Tensor, only
from gmpq.backends.tvm.kernels.cpu.elementwise.add import row_start
from gmpq.backends.tvm.kernels.cpu.isa.builder import (
    Buffer,
    Expr,
    c_function,
    cast,
    in_registers,
    load,
    splat,
    store,
    to_codes,
    view,
)
from gmpq.backends.tvm.kernels.cpu.isa.site import Site
from gmpq.backends.tvm.kernels.layout import Layout
from gmpq.backends.tvm.target.cpu import VECTOR
from gmpq.ir import Multiply, QParams


def build(site: Site) -> Call:
    """Return the call that multiplies two tensors, gates second."""
    a, b = sorted(site.inputs, key=lambda x: -x.codes.height * x.codes.width)
    scale = numerics.product_scale(a.q.scale, b.q.scale)
    factor = float(numerics.multiplier(scale, site.output.q.scale))
    function = _multiply(_Term.of(a), _Term.of(b), site.output, factor)
    return replace(site.call(function), inputs=(a.value.name, b.value.name))


FAMILY = Family("multiply", (Multiply,), only(build))


@dataclass(frozen=True, slots=True)
class _Term:
    """One factor of the products."""

    layout: Layout
    q: QParams

    @classmethod
    def of(cls, tensor: Tensor) -> _Term:
        return cls(tensor.codes, tensor.q)

    def centred(self, memory: Buffer, place: Expr) -> Expr:
        """Return the int32 differences from the zero point of the vector at ``place``."""
        codes = cast("int32", VECTOR, load(memory, place, VECTOR))
        return codes - splat(T.int32(self.q.zero_point), VECTOR)


def _multiply(a: _Term, b: _Term, output: Tensor, factor: float) -> PrimFunc:
    y = output.codes
    gates = (b.layout.height, b.layout.width) == (1, 1)

    def body(a_: Expr, b_: Expr, y_: Expr) -> None:
        first = view(a_, "uint8", a.layout.size_bytes)
        second = view(b_, "uint8", b.layout.size_bytes)
        target = view(y_, "uint8", y.size_bytes)

        def store_product(place: tuple[Expr, Expr, Expr], other: Expr) -> None:
            image, row, shift = place
            own = a.centred(first, row_start(a.layout, image, row) + shift)
            steps = cast("float32", VECTOR, own * other) * splat(T.float32(factor), VECTOR)
            codes = to_codes(steps, output.q, VECTOR)
            store(target, row_start(y, image, row) + shift, codes, VECTOR)

        with T.parallel(0, y.batch * y.height) as item, T.serial(0, y.stored // VECTOR) as v:
            image, row, lane = item // y.height, item % y.height, v * VECTOR
            first_of_row = row_start(b.layout, image, 0 if gates else row) + lane
            gate = in_registers([b.centred(second, first_of_row)])[0] if gates else None
            with T.serial(0, y.width) as column:
                shift = column * y.stored
                other = b.centred(second, first_of_row + shift) if gate is None else gate
                store_product((image, row, lane + shift), other)

    return c_function((("a", "uint8"), ("b", "uint8"), ("y", "uint8")), body)
