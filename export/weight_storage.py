"""How an ONNX file stores weights; free of heavy imports, for options."""

from __future__ import annotations

from enum import Enum


class WeightStorage(Enum):
    """The type of a weight's initializer; the codes that the network computes with are the same.

    PACKED halves or quarters the file where a weight has at most 4 or 2 bits. The initializer is
    cast to int8 before it is dequantized, since onnxruntime keeps its integer kernels only then.
    """

    INT8 = "int8"
    PACKED = "packed"
