"""A layer as an implicit matrix product: pixels times outputs, K is taps times channels.

Of a network input with up to four channels, a pixel is one word: there K is rows of taps, of 32
bytes each, in which the words beyond the window meet zero weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gmpq.backends.tvm.kernels.gpu.isa.builder import Expr
from gmpq.backends.tvm.kernels.gpu.isa.layer import LayerShape
from gmpq.backends.tvm.target.gpu import GROUP, VECTOR


@dataclass(frozen=True, slots=True)
class Shape(LayerShape):
    """The sizes of the product: pixels times outputs."""

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

    def step_offset(self, step: Expr, bk: int) -> Expr:
        """Return the distance of a step's codes from the first one under the window."""
        if self.by_rows:
            return step * (self.window.dilation[0] * self.x.row)
        per_tap, columns = self.x.stored // bk, self.window.kernel[1]
        tap = step // per_tap
        return self.tap_offset(tap // columns, tap % columns) + step % per_tap * bk

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
