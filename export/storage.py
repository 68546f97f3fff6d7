"""How weight codes lie in an ONNX file: one byte each, or packed to four or two bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from gmpq.export.weight_storage import WeightStorage

INT8_OPSET = 13  # per-axis QuantizeLinear and DequantizeLinear
INT4_OPSET = 21
INT2_OPSET = 25

_BYTES = (TensorProto.INT8, TensorProto.UINT8)
_FOUR_BITS = (TensorProto.INT4, TensorProto.UINT4)
_TWO_BITS = (TensorProto.INT2, TensorProto.UINT2)


def element_type(bits: int, storage: WeightStorage) -> int:
    """Return the TensorProto type that holds weight codes of ``bits`` bits."""
    if storage is WeightStorage.INT8 or bits > 4:
        return TensorProto.INT8
    return TensorProto.INT4 if bits > 2 else TensorProto.INT2


def unsigned_type(bits: int, storage: WeightStorage) -> tuple[int, int]:
    """Return the TensorProto type that holds unsigned codes of ``bits`` bits, and their zero point.

    The zero point is the middle, so that the signed codes of ``element_type`` fit.
    """
    match element_type(bits, storage):
        case TensorProto.INT2:
            return TensorProto.UINT2, 2
        case TensorProto.INT4:
            return TensorProto.UINT4, 8
        case _:
            return TensorProto.UINT8, 128


def opset_of(element: int) -> int:
    """Return the first opset in which Cast reads ``element``."""
    if element in _TWO_BITS:
        return INT2_OPSET
    return INT4_OPSET if element in _FOUR_BITS else INT8_OPSET


def pack(name: str, codes: NDArray[np.int8] | NDArray[np.uint8], element: int) -> TensorProto:
    """Return ``codes`` [...] as an initializer of type ``element``, in the same shape.

    Packed elements fill each byte from its low bits: codes 1, -1 of four bits are the byte 0xF1
    (onnx.proto, ``TensorProto.raw_data`` of INT4).
    """
    if element in _BYTES:
        return numpy_helper.from_array(codes, name)
    width = 2 if element in _TWO_BITS else 4
    per_byte = 8 // width
    fields = np.zeros(-(-codes.size // per_byte) * per_byte, np.uint8)
    fields[: codes.size] = codes.reshape(-1).view(np.uint8) & ((1 << width) - 1)
    shifts = np.arange(0, 8, width, dtype=np.uint8)
    packed = np.bitwise_or.reduce(fields.reshape(-1, per_byte) << shifts, axis=1)
    return helper.make_tensor(name, element, codes.shape, packed.tobytes(), raw=True)
