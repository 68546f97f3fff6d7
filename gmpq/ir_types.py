"""What nodes are made of: shapes, codes, windows, weights, unary functions.

``gmpq.ir`` has the nodes and the graph, and exports all names of this module too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class QParams:
    """What the codes of a value mean: ``real = scale * (code - zero_point)``.

    A b-bit value lives in a uint8 container. ``low`` and ``high`` bound the codes that occur, so a
    ReLU, a ReLU6 or a narrower type is the clip that its producer makes.
    """

    scale: float  # exactly a float32
    zero_point: int
    bits: int  # 1..8
    low: int
    high: int

    @classmethod
    def full(cls, scale: float, zero_point: int, bits: int) -> QParams:
        """Return the parameters whose codes use the whole range of ``bits``."""
        return cls(float(np.float32(scale)), zero_point, bits, 0, (1 << bits) - 1)

    @property
    def maximum(self) -> int:
        """The largest code that ``bits`` can hold."""
        return (1 << self.bits) - 1


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor: float32 if ``q`` is None, else codes."""

    name: str
    shape: Shape
    q: QParams | None = None


class Padding(NamedTuple):
    """Rows and columns added at each side."""

    top: int = 0
    left: int = 0
    bottom: int = 0
    right: int = 0


NO_PADDING = Padding()


@dataclass(frozen=True, slots=True)
class Window:
    """How a kernel slides over an image; ceil-mode pooling is extra padding at bottom and right."""

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: Padding = NO_PADDING
    dilation: tuple[int, int] = (1, 1)

    @property
    def reach(self) -> tuple[int, int]:
        """Rows and columns of input that one output sees."""
        (rows, columns), (dy, dx) = self.kernel, self.dilation
        return (rows - 1) * dy + 1, (columns - 1) * dx + 1

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the rows and columns of output for an input of ``height`` x ``width``."""
        rows = height + self.padding.top + self.padding.bottom - self.reach[0]
        columns = width + self.padding.left + self.padding.right - self.reach[1]
        return rows // self.stride[0] + 1, columns // self.stride[1] + 1


@dataclass(frozen=True, slots=True, eq=False)
class QWeight:
    """Symmetric weight codes with a scale per output channel, and the bias in accumulator steps."""

    codes: NDArray[np.int8]  # [O, I / groups, kH, kW] or [O, I]
    scale: NDArray[np.float32]  # [O]
    bias: NDArray[np.int32]  # [O], in steps of float32(input scale * scale)
    bits: int  # 1..8


@dataclass(frozen=True, slots=True)
class Clamp:
    """``min(max(x, low), high)``: ReLU is (0, inf), ReLU6 (0, 6), hardtanh (-1, 1)."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class LeakyRelu:
    """``x if x >= 0 else slope * x``."""

    slope: float


@dataclass(frozen=True, slots=True, eq=False)
class PRelu:
    """``x if x >= 0 else slopes[c] * x``."""

    slopes: NDArray[np.float32]  # [C]


@dataclass(frozen=True, slots=True)
class Silu:
    """``x * sigmoid(x)``."""


@dataclass(frozen=True, slots=True)
class HardSwish:
    """``x * clamp(x + 3, 0, 6) / 6``."""


@dataclass(frozen=True, slots=True)
class Sigmoid:
    """``1 / (1 + exp(-x))``."""


Function: TypeAlias = Clamp | LeakyRelu | PRelu | Silu | HardSwish | Sigmoid
