"""A convolution, or a fully connected layer as one, and where its windows lie in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self, TypeAlias

from gmpq.backends.tvm.kernels.gpu.isa.builder import Expr, register
from gmpq.backends.tvm.kernels.gpu.isa.site import Site
from gmpq.backends.tvm.kernels.layout import Layout
from gmpq.ir import Conv2d, Linear, Padding, Window

Pixel: TypeAlias = tuple[Expr, Expr, Expr]  # image, row, column
ONE_PIXEL = Window((1, 1), (1, 1), Padding(0, 0, 0, 0))


@dataclass(frozen=True, slots=True)
class LayerShape:
    """The sizes of a layer; in a fully connected one, every image is one pixel."""

    x: Layout
    y: Layout
    window: Window
    groups: int
    inputs: int  # of a group
    outputs: int

    @classmethod
    def of(cls, site: Site) -> Self:
        """Return the shape of the layer at ``site``."""
        node, x, y = site.node, site.inputs[0].codes, site.output.codes
        assert isinstance(node, Conv2d | Linear)
        outputs, inputs = node.weight.codes.shape[:2]
        if isinstance(node, Conv2d):
            return cls(x, y, node.window, node.groups, inputs, outputs)
        return cls(x, y, ONE_PIXEL, 1, inputs, outputs)

    @property
    def pixels(self) -> int:
        """Output pixels of all images."""
        return self.y.batch * self.y.height * self.y.width

    @property
    def taps(self) -> int:
        """Taps of the window."""
        return self.window.kernel[0] * self.window.kernel[1]

    def pixel(self, number: Expr) -> Pixel:
        """Return an output pixel by its number."""
        size = self.y.height * self.y.width
        rest = register(number % size)
        return register(number // size), rest // self.y.width, rest % self.y.width

    def window_start(self, pixel: Pixel) -> Expr:
        """Return the place of the first code under the window of an output pixel."""
        (image, row, column), x, window = pixel, self.x, self.window
        start = x.origin - window.padding.top * x.row - window.padding.left * x.stored
        across = column * (window.stride[1] * x.stored)
        return start + image * x.image + row * (window.stride[0] * x.row) + across

    def tap_offset(self, r: Expr, s: Expr) -> Expr:
        """Return the distance of a tap from the first one."""
        rows, columns = self.window.dilation
        return r * (rows * self.x.row) + s * (columns * self.x.stored)
