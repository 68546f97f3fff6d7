"""A layer as an implicit matrix product: pixels times outputs, K is taps times channels.

Of a network input with up to four channels, a pixel is one word: there K is rows of taps, of 32
bytes each, in which the words beyond the window meet zero weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gmpq.backends.tvm.kernels.gpu.isa.builder import Expr, held
from gmpq.backends.tvm.kernels.gpu.isa.site import Site
from gmpq.backends.tvm.kernels.layout import Layout
from gmpq.backends.tvm.target.gpu import GROUP, VECTOR
from gmpq.ir import Conv2d, Linear, Padding, Window


@dataclass(frozen=True, slots=True)
class Shape:
    """A convolution, or a fully connected layer, of which every image is one pixel."""

    x: Layout
    y: Layout
    window: Window
    outputs: int

    @classmethod
    def of(cls, site: Site) -> Shape:
        """Return the shape of the layer at ``site``."""
        node, x, y = site.node, site.inputs[0].codes, site.output.codes
        assert isinstance(node, Conv2d | Linear)
        one = Window((1, 1), (1, 1), Padding(0, 0, 0, 0))
        window = node.window if isinstance(node, Conv2d) else one
        return cls(x, y, window, len(node.weight.codes))

    @property
    def pixels(self) -> int:
        """Rows of the product."""
        return self.y.batch * self.y.height * self.y.width

    @property
    def taps(self) -> int:
        """Taps of the window."""
        return self.window.kernel[0] * self.window.kernel[1]

    @property
    def by_rows(self) -> bool:
        """Whether K is rows of taps."""
        return self.x.stored == GROUP

    @property
    def depth(self) -> int:
        """Bytes of K."""
        return self.window.kernel[0] * VECTOR if self.by_rows else self.taps * self.x.stored

    def steps(self, bk: int) -> int:
        """Return the steps of ``bk`` bytes of K."""
        return self.depth // bk

    def place_of(self, pixel: Expr) -> tuple[Expr, Expr, Expr]:
        """Return image, row and column of an output pixel."""
        image = pixel // (self.y.height * self.y.width)
        rest = held(pixel % (self.y.height * self.y.width))
        return image, rest // self.y.width, rest % self.y.width

    def window_start(self, pixel: Expr) -> Expr:
        """Return the place of the first code under the window of an output pixel."""
        image, row, column = self.place_of(pixel)
        x, window = self.x, self.window
        start = x.origin - window.padding.top * x.row - window.padding.left * x.stored
        across = column * (window.stride[1] * x.stored)
        return start + image * x.image + row * (window.stride[0] * x.row) + across

    def step_offset(self, step: Expr, bk: int) -> Expr:
        """Return the distance of a step's codes from the first one under the window."""
        if self.by_rows:
            return step * (self.window.dilation[0] * self.x.row)
        per_tap, columns = self.x.stored // bk, self.window.kernel[1]
        tap = step // per_tap
        rows, across = self.window.dilation
        offset = tap // columns * (rows * self.x.row) + tap % columns * (across * self.x.stored)
        return offset + step % per_tap * bk

    def taps_of(self, codes: NDArray[np.int8]) -> NDArray[np.int8]:
        """Return weights [O, I, ...] as [O, bytes of K]."""
        outputs, inputs = codes.shape[:2]
        if self.by_rows:
            rows, columns = self.window.kernel
            words = np.zeros((outputs, rows, VECTOR // GROUP, GROUP), np.int8)
            words[:, :, :columns, :inputs] = codes.transpose(0, 2, 3, 1)
            return words.reshape(outputs, -1)
        found = np.zeros((outputs, self.taps, self.x.stored), np.int8)
        found[:, :, :inputs] = codes.reshape(outputs, inputs, -1).transpose(0, 2, 1)
        return found.reshape(outputs, -1)
