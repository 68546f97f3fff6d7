"""The graph: what a network computes, before quantization in real numbers and after it in codes.

A ``Graph`` is a list of nodes in execution order over named values. Two closed unions of nodes make
two kinds of graph that share everything which moves data without weights:

- ``FloatGraph``: ``FloatConv2d``, ``FloatLinear``, ``Activation`` and the shared nodes; every value
  is float32. It is what lowering returns and what calibration runs.
- ``IntGraph``: ``Quantize``, ``Conv2d``, ``Linear``, ``Lookup``, ``Requantize``, ``Dequantize`` and
  the shared nodes; every value between ``Quantize`` and the outputs is a tensor of codes with
  ``QParams``. Before an output, values are float32: what a ``Dequantize`` or a last layer writes,
  and what ``Concat``, ``Reshape`` and ``Softmax`` make of it. ``gmpq.backends.reference`` defines
  what it computes.

The unions are closed, so all nodes stand in this one file; ``gmpq.ir_types`` has what they are made
of.

Shapes are logical: [N, C, H, W] for images, [N, F] for vectors; a backend stores them as it likes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from gmpq.ir_types import NO_PADDING as NO_PADDING
from gmpq.ir_types import Clamp as Clamp
from gmpq.ir_types import Function as Function
from gmpq.ir_types import HardSwish as HardSwish
from gmpq.ir_types import LeakyRelu as LeakyRelu
from gmpq.ir_types import Padding as Padding
from gmpq.ir_types import PRelu as PRelu
from gmpq.ir_types import QParams as QParams
from gmpq.ir_types import QWeight as QWeight
from gmpq.ir_types import Shape as Shape
from gmpq.ir_types import Sigmoid as Sigmoid
from gmpq.ir_types import Silu as Silu
from gmpq.ir_types import Value as Value
from gmpq.ir_types import Window as Window

# --- nodes of both graphs ------------------------------------------------------------------------
# Every node has a unique ``name`` (the module path it came from), ``inputs`` and an ``output``.


@dataclass(frozen=True, slots=True)
class Add:
    """Sum of two tensors of one shape; as codes, all three values share one scale."""

    name: str
    inputs: tuple[str, str]
    output: str


@dataclass(frozen=True, slots=True)
class Multiply:
    """Product of two tensors of one shape, or of [N, C, H, W] and [N, C, 1, 1] in either order."""

    name: str
    inputs: tuple[str, str]
    output: str


@dataclass(frozen=True, slots=True)
class Concat:
    """Tensors side by side along the channels: float32, or codes of one scale and zero point."""

    name: str
    inputs: tuple[str, ...]
    output: str


@dataclass(frozen=True, slots=True)
class MaxPool:
    """Largest element under a window; padding never wins; input and output share their QParams."""

    name: str
    inputs: tuple[str]
    output: str
    window: Window


@dataclass(frozen=True, slots=True)
class AvgPool:
    """Mean under a window; ``window.padding`` includes what ceil mode adds.

    ``counted`` is the padding that enters the divisor as zeros (count_include_pad); what lies
    beyond it (ceil mode, or all padding) does not count.
    """

    name: str
    inputs: tuple[str]
    output: str
    window: Window
    counted: Padding


@dataclass(frozen=True, slots=True)
class GlobalAvgPool:
    """Mean over space: [N, C, H, W] to [N, C, 1, 1]."""

    name: str
    inputs: tuple[str]
    output: str


@dataclass(frozen=True, slots=True)
class Pad:
    """Zeros around an image; as codes, the zero point."""

    name: str
    inputs: tuple[str]
    output: str
    padding: Padding


@dataclass(frozen=True, slots=True)
class Reshape:
    """The same elements in [N, C, H, W] order under the output's shape; N stays."""

    name: str
    inputs: tuple[str]
    output: str


@dataclass(frozen=True, slots=True)
class Upsample:
    """Nearest-neighbour enlargement by whole factors (rows, columns)."""

    name: str
    inputs: tuple[str]
    output: str
    factors: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Softmax:
    """Softmax over the channels, in float32, at a network's output."""

    name: str
    inputs: tuple[str]
    output: str


Shared: TypeAlias = (
    Add | Multiply | Concat | MaxPool | AvgPool | GlobalAvgPool | Pad | Reshape | Upsample | Softmax
)


# --- nodes of the float graph --------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class FloatConv2d:
    """Convolution in real numbers; ``name`` is the policy's layer unless ``auxiliary``.

    ``auxiliary`` marks a convolution that stands for something else, such as a batch norm that no
    convolution could absorb; it has 8-bit weights and input and no entry in the policy.
    """

    name: str
    inputs: tuple[str]
    output: str
    weight: NDArray[np.float32]  # [O, I / groups, kH, kW]
    bias: NDArray[np.float32]  # [O]
    window: Window
    groups: int = 1
    auxiliary: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class FloatLinear:
    """Fully connected layer in real numbers; ``name`` is the policy's layer."""

    name: str
    inputs: tuple[str]
    output: str
    weight: NDArray[np.float32]  # [O, I]
    bias: NDArray[np.float32]  # [O]


@dataclass(frozen=True, slots=True)
class Activation:
    """A unary function of every element."""

    name: str
    inputs: tuple[str]
    output: str
    function: Function


FloatNode: TypeAlias = FloatConv2d | FloatLinear | Activation | Shared


# --- nodes of the integer graph ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Quantize:
    """Float32 to codes."""

    name: str
    inputs: tuple[str]
    output: str


@dataclass(frozen=True, slots=True)
class Dequantize:
    """Codes to float32."""

    name: str
    inputs: tuple[str]
    output: str


@dataclass(frozen=True, slots=True, eq=False)
class Conv2d:
    """Convolution of codes into int32, requantized and clipped to the output's codes.

    An output without codes is ``float32(accumulator) * scale``, at a network's output.
    """

    name: str
    inputs: tuple[str]
    output: str
    weight: QWeight
    window: Window
    groups: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """Fully connected layer of codes [N, I] into int32, which become an output as of ``Conv2d``."""

    name: str
    inputs: tuple[str]
    output: str
    weight: QWeight


@dataclass(frozen=True, slots=True, eq=False)
class Lookup:
    """A unary function as a table from input code to output code, per tensor or per channel."""

    name: str
    inputs: tuple[str]
    output: str
    table: NDArray[np.uint8]  # [256] or [C, 256]
    function: Function


@dataclass(frozen=True, slots=True)
class Requantize:
    """The same real numbers at another scale or width: Dequantize, then Quantize."""

    name: str
    inputs: tuple[str]
    output: str


Node: TypeAlias = Quantize | Dequantize | Conv2d | Linear | Lookup | Requantize | Shared

AnyNode = TypeVar("AnyNode", FloatNode, Node, covariant=True)


@dataclass(frozen=True, slots=True, eq=False)
class Graph(Generic[AnyNode]):
    """Nodes in execution order; every value is an input or the output of one node."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    values: Mapping[str, Value]
    nodes: tuple[AnyNode, ...]

    def consumers(self, value: str) -> tuple[AnyNode, ...]:
        """Return the nodes that read ``value``, in execution order."""
        return tuple(node for node in self.nodes if value in node.inputs)

    def producer(self, value: str) -> AnyNode | None:
        """Return the node that writes ``value``; None for an input of the graph."""
        return next((node for node in self.nodes if node.output == value), None)


FloatGraph: TypeAlias = Graph[FloatNode]
IntGraph: TypeAlias = Graph[Node]
