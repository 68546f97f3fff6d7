"""The halo around what a kernel stores, filled with the zero point by further blocks of its launch.

A launch costs more than a border, and no other block writes there.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.kernels.gpu.isa import instructions
from gmpq.backends.tvm.kernels.gpu.isa.builder import WORD, Expr, register, run, store, view
from gmpq.backends.tvm.kernels.gpu.isa.site import Site
from gmpq.backends.tvm.kernels.layout import Layout

LINE = 16  # bytes that a thread stores at once


@dataclass(frozen=True, slots=True)
class Border:
    """The halo of one output of a kernel, which is its parameter ``pointer`` from the end."""

    pointer: int
    layout: Layout
    zero_point: int

    @property
    def unit(self) -> int:
        """Bytes of an item."""
        return LINE if self.layout.stored % LINE == 0 else WORD

    @property
    def width(self) -> int:
        """Pixels of a row with its halo."""
        return self.layout.row // self.layout.stored

    @property
    def above_and_below(self) -> int:
        """Pixels of the rows above and below an image."""
        return (self.layout.halo.top + self.layout.halo.bottom) * self.width

    @property
    def items(self) -> int:
        """What there is to store, of all images."""
        halo, layout = self.layout.halo, self.layout
        flanks = (halo.left + halo.right) * layout.height
        pixels = (self.above_and_below + flanks) * layout.batch
        return pixels * (layout.stored // self.unit)

    def fill(self, item: Expr, pointers: tuple[Expr, ...]) -> None:
        """Store one item."""
        layout, units = self.layout, self.layout.stored // self.unit
        y = view(pointers[self.pointer], "uint32", layout.size_bytes // WORD)
        pixels = self.items // units // layout.batch
        pixel = register(item // units % pixels)
        place = register(self._place(pixel, item // (units * pixels)) + item % units * self.unit)
        word = T.uint32(self.zero_point * 0x01010101)
        if self.unit == WORD:
            store(y, place // WORD, word)
        else:
            address = T.address_of(y[place // WORD])
            run("store16", address, *[word] * 4, source=instructions.STORE16)

    def _place(self, pixel: Expr, image: Expr) -> Expr:
        """Return the first byte of a pixel of the border of an image."""
        layout, halo = self.layout, self.layout.halo
        row = register(pixel // self.width)
        around = T.Select(row < halo.top, row, row + layout.height) * layout.row
        around = around + pixel % self.width * layout.stored
        sides = halo.left + halo.right
        if not sides or not layout.height:
            return image * layout.image + around
        rest = register(pixel - self.above_and_below)
        column = register(rest % sides)
        flanks = (rest // sides + halo.top) * layout.row
        column = T.Select(column < halo.left, column, column + layout.width)
        inside = flanks + column * layout.stored
        return image * layout.image + T.Select(pixel < self.above_and_below, around, inside)


def borders_of(site: Site) -> tuple[Border, ...]:
    """Return the borders of all that a kernel at ``site`` stores."""
    results = site.results
    return tuple(
        Border(i - len(results), tensor.codes, tensor.q.zero_point)
        for i, tensor in enumerate(results)
        if tensor.value.q is not None and any(tensor.codes.halo)
    )
