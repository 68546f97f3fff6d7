from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gmpq.backends.tvm.kernels.mapping import CODES, exact_factor
from gmpq.ir import QParams
from gmpq.numerics import dequantize, quantize, requantize

scales = st.floats(2**-13, 8, width=32)
params = st.builds(
    lambda scale, zero_point, bits: QParams.full(scale, zero_point % (1 << bits), bits),
    scales,
    st.integers(0, 255),
    st.integers(1, 8),
)


@given(params, params)
def test_a_factor_maps_every_code_as_the_definition(qx: QParams, qy: QParams) -> None:
    factor = exact_factor(qx, qy)
    if factor is None:
        return  # a table does it
    real = dequantize(CODES, qx.scale, qx.zero_point)
    expected = quantize(real, qy.scale, qy.zero_point, qy.low, qy.high)
    steps = CODES.astype(np.int32) - qx.zero_point
    found = requantize(steps, np.array(factor), qy.zero_point, qy.low, qy.high)
    np.testing.assert_array_equal(expected, found)


def test_a_usual_pair_has_a_factor() -> None:
    assert exact_factor(QParams.full(0.0371, 0, 8), QParams.full(0.52, 0, 4)) is not None
