from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, numpy_helper

from gmpq.export.storage import (
    WeightStorage,
    element_type,
    opset_of,
    pack,
    unsigned_type,
)


@pytest.mark.parametrize(
    ("bits", "element", "opset"),
    [
        pytest.param(1, TensorProto.INT2, 25, id="one"),
        pytest.param(2, TensorProto.INT2, 25, id="two"),
        pytest.param(3, TensorProto.INT4, 21, id="three"),
        pytest.param(4, TensorProto.INT4, 21, id="four"),
        pytest.param(5, TensorProto.INT8, 13, id="five"),
        pytest.param(8, TensorProto.INT8, 13, id="eight"),
    ],
)
def test_packed_type_of_each_width(bits: int, element: int, opset: int) -> None:
    assert element == element_type(bits, WeightStorage.PACKED)
    assert opset == opset_of(element)
    assert element_type(bits, WeightStorage.INT8) == TensorProto.INT8


@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 3, 3, 3), (40, 17, 1, 1)], ids=str)
@pytest.mark.parametrize(
    ("element", "low", "high"),
    [
        (TensorProto.INT2, -2, 1),
        (TensorProto.INT4, -8, 7),
        (TensorProto.INT8, -128, 127),
        (TensorProto.UINT2, 0, 3),
        (TensorProto.UINT4, 0, 15),
        (TensorProto.UINT8, 0, 255),
    ],
    ids=["int2", "int4", "int8", "uint2", "uint4", "uint8"],
)
def test_packing_loses_nothing(shape: tuple[int, ...], element: int, low: int, high: int) -> None:
    kind = np.uint8 if low == 0 else np.int8
    codes = np.random.default_rng(0).integers(low, high, shape, kind, endpoint=True)
    unpacked = numpy_helper.to_array(pack("w", codes, element))
    np.testing.assert_array_equal(codes, unpacked.astype(kind))


@pytest.mark.parametrize("storage", WeightStorage, ids=lambda storage: storage.value)
@pytest.mark.parametrize("bits", range(1, 9))
def test_unsigned_codes_have_room_for_the_signed_ones(bits: int, storage: WeightStorage) -> None:
    _, zero = unsigned_type(bits, storage)
    assert zero >= 1 << (bits - 1)


def test_low_bits_come_first() -> None:
    assert pack("w", np.array([1, -1, 7], np.int8), TensorProto.INT4).raw_data == b"\xf1\x07"
    assert pack("w", np.array([1, -1, 0, 1], np.int8), TensorProto.INT2).raw_data == b"\x4d"
