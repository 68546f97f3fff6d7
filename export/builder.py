"""An ONNX model while it is being written: nodes, initializers, and the opset they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from gmpq.export.storage import (
    INT8_OPSET,
    element_type,
    opset_of,
    pack,
    unsigned_type,
)
from gmpq.export.weight_storage import WeightStorage
from gmpq.ir import Padding, QParams, Shape, Value

Attribute: TypeAlias = int | float | str | Sequence[int]


@dataclass
class Draft:
    """Nodes and initializers in writing order.

    Tensors of codes keep the names of the graph's values. Everything that the writer adds has a
    colon in its name: ``conv1:real``, ``conv1:scale``, ``conv1:weight``. Operators are named after
    the graph's node that ``owner`` says: ``conv1``, ``conv1:QuantizeLinear``.
    """

    storage: WeightStorage
    values: Mapping[str, Value]
    owner: str = ""
    opset: int = INT8_OPSET
    nodes: list[NodeProto] = field(default_factory=list)
    initializers: dict[str, TensorProto] = field(default_factory=dict)
    reals: set[str] = field(default_factory=set)

    def add(
        self,
        operator: str,
        inputs: Sequence[str],
        output: str,
        attributes: Mapping[str, Attribute] | None = None,
        *,
        main: bool = False,
    ) -> str:
        """Add a node with one output and return it; the ``main`` one has the owner's bare name."""
        name = self.owner if main else f"{self.owner}:{operator}:{len(self.nodes)}"
        node = helper.make_node(operator, inputs, [output], name=name)
        for key, value in sorted((attributes or {}).items()):
            node.attribute.append(helper.make_attribute(key, value))
        self.nodes.append(node)
        return output

    def constant(self, name: str, array: NDArray[Any]) -> str:
        """Add an initializer, [...] of any type, unless it is there, and return its name."""
        self.initializers.setdefault(name, numpy_helper.from_array(array, name))
        return name

    def encoding(self, value: str) -> tuple[str, str]:
        """Return the names of the scale, float32 [], and zero point, uint8 [], of a value."""
        q = self.q(value)
        scale = self.constant(f"{value}:scale", np.array(q.scale, np.float32))
        return scale, self.constant(f"{value}:zero", np.array(q.zero_point, np.uint8))

    def dequantized(self, value: str) -> str:
        """Return the name of the float32 reading of a value of codes."""
        real = f"{value}:real"
        if value not in self.reals:
            self.reals.add(value)
            self.add("DequantizeLinear", (value, *self.encoding(value)), real)
        return real

    def quantized(self, real: str, value: str, scale: str | None = None) -> None:
        """Write float32 ``real`` as the codes ``value``, without a clip.

        ``scale`` names that of ``real``, if it is not in real numbers.
        """
        own, zero = self.encoding(value)
        self.add("QuantizeLinear", (real, scale or own, zero), value)

    def clipped(self, real: str, value: str, scale: str | None = None) -> None:
        """Write float32 ``real`` as ``quantized`` does, clipped on the codes.

        onnxruntime keeps its integer kernels with a clip of codes, and leaves them with a clip of
        floats.
        """
        q, wide = self.q(value), f"{value}:wide"
        own, zero = self.encoding(value)
        self.add("QuantizeLinear", (real, scale or own, zero), wide)
        low = self.constant(f"{value}:low", np.array(q.low, np.uint8))
        self.add(
            "Clip", (wide, low, self.constant(f"{value}:high", np.array(q.high, np.uint8))), value
        )

    def reshape(self, source: str, output: str, shape: Shape, *, main: bool = False) -> str:
        """Add ``source`` under another shape and return ``output``."""
        target = self.constant(f"{output}:shape", np.array(shape, np.int64))
        return self.add("Reshape", (source, target), output, main=main)

    def pads(self, name: str, padding: Padding) -> str:
        """Return the name of the ``pads`` operand of Pad, int64 [8], for [N, C, H, W]."""
        top, left, bottom, right = padding
        return self.constant(name, np.array((0, 0, top, left, 0, 0, bottom, right), np.int64))

    def weight(
        self, name: str, codes: NDArray[np.int8], scale: NDArray[np.float32], bits: int
    ) -> str:
        """Return the name of the dequantized weight of layer ``name``, float32 [O, ...].

        ``codes`` are int8 [O, ...], ``scale`` is float32 [O]: ``DequantizeLinear`` over axis 0.
        """
        element = element_type(bits, self.storage)
        self.opset = max(self.opset, opset_of(element))
        stored = f"{name}:weight"
        self.initializers[stored] = pack(stored, codes, element)
        if element != TensorProto.INT8:
            stored = self.add(
                "Cast", (stored,), f"{name}:int8", attributes={"to": TensorProto.INT8}
            )
        zero = self.constant(f"{name}:weight-zero", np.zeros(len(scale), np.int8))
        scales = self.constant(f"{name}:weight-scale", scale)
        return self.add(
            "DequantizeLinear",
            (stored, scales, zero),
            f"{name}:weight-real",
            attributes={"axis": 0},
        )

    def unsigned_weight(self, name: str, codes: NDArray[np.int8], bits: int) -> tuple[str, str]:
        """Return the names of the uint8 weight of layer ``name`` and of its zero point.

        ``codes`` are int8 [...]; the stored ones are ``codes`` plus the zero point, uint8 [].
        """
        element, zero = unsigned_type(bits, self.storage)
        self.opset = max(self.opset, opset_of(element))
        stored = f"{name}:weight"
        raised = (codes.astype(np.int16) + zero).astype(np.uint8)
        self.initializers[stored] = pack(stored, raised, element)
        if element != TensorProto.UINT8:
            to_uint8 = {"to": TensorProto.UINT8}
            stored = self.add("Cast", (stored,), f"{name}:uint8", attributes=to_uint8)
        return stored, self.constant(f"{name}:weight-zero", np.array(zero, np.uint8))

    def q(self, value: str) -> QParams:
        """Return the parameters of a value of codes."""
        q = self.values[value].q
        assert q is not None, f"{value} must hold codes"
        return q

    def info(self, value: str) -> ValueInfoProto:
        """Return the type and shape of a value."""
        element = TensorProto.FLOAT if self.values[value].q is None else TensorProto.UINT8
        return helper.make_tensor_value_info(value, element, self.values[value].shape)
