from __future__ import annotations

from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmpq.errors import CalibrationError
from gmpq.ir import Clamp
from gmpq.passes.ranges import Range, encode, encode_scale_group
from gmpq.passes.scale_groups import SharedScale

bounds = st.floats(-1e4, 1e4, width=32).filter(lambda x: x == 0 or abs(x) > 1e-3)
pairs = st.tuples(bounds, bounds).map(lambda pair: (min(pair), max(pair)))


@given(ranges=st.lists(pairs, min_size=1, max_size=4), bits=st.integers(1, 8))
def test_codes_cover_every_range_and_zero(ranges: list[Range], bits: int) -> None:
    known = {f"v{i}": pair for i, pair in enumerate(ranges)}
    shared = SharedScale(tuple((name,) for name in known), bits)
    found = encode_scale_group(shared, lambda value, _: known[value], {})
    assert len({q.scale for q in found.values()}) == 1
    for name, (low, high) in known.items():
        q = found[name]
        assert np.float32(q.scale) == q.scale
        assert 0 <= q.zero_point <= q.maximum
        slack = 0.5001 * q.scale  # a zero point is a whole number
        assert -q.zero_point * q.scale <= min(low, 0) + slack
        assert (q.maximum - q.zero_point) * q.scale >= max(high, 0) - slack
        assert low < 0 or q.zero_point == 0


def test_the_widest_member_sets_the_scale() -> None:
    known = {"a": (-1.0, 1.55), "b": (0.0, 5.1), "c": (-0.1, 0.1)}
    shared = SharedScale((("a",), ("b",), ("c",)), 8)
    found = encode_scale_group(shared, lambda value, _: known[value], {})
    assert {q.scale for q in found.values()} == {float(np.float32(0.02))}
    # what a range leaves unused lies on both of its sides
    assert [found[name].zero_point for name in "abc"] == [114, 0, 128]


def test_members_of_a_group_share_the_hull() -> None:
    known = {"a": (-1.0, 0.5), "b": (0.0, 4.1)}
    found = encode_scale_group(SharedScale((("a", "b"),), 8), lambda value, _: known[value], {})
    assert found["a"] == found["b"]
    assert found["a"].zero_point == 50


@pytest.mark.parametrize(
    ("clamp", "low", "high"),
    [
        pytest.param(Clamp(0.0, inf), 100, 255, id="relu"),
        pytest.param(Clamp(0.0, 6.0), 100, 160, id="relu6"),
        pytest.param(Clamp(-inf, 1.0), 0, 110, id="upper"),
        pytest.param(Clamp(-100.0, 100.0), 0, 255, id="beyond"),
        pytest.param(Clamp(0.5, 0.5), 105, 105, id="constant"),
    ],
)
def test_a_clamp_is_the_clip_of_its_producer(clamp: Clamp, low: int, high: int) -> None:
    shared = SharedScale((("a", "b"),), 8)
    found = encode_scale_group(shared, lambda *_: (-10.0, 15.5), {"a": clamp})
    assert (found["a"].zero_point, found["a"].low, found["a"].high) == (100, low, high)
    assert (found["b"].low, found["b"].high) == (0, 255)


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_zeros_alone_have_a_usual_scale(bits: int) -> None:
    q = encode("x", bits, lambda *_: (0.0, 0.0))
    assert (q.scale * q.maximum, q.zero_point) == (pytest.approx(1.0), 0)


def test_tiny_ranges_keep_products_of_scales_normal() -> None:
    assert encode("x", 8, lambda *_: (0.0, 1e-30)).scale == 2.0**-30


def test_ranges_beyond_codes_are_refused() -> None:
    with pytest.raises(CalibrationError, match=r"value 'x' spans 1e[+]20"):
        encode("x", 8, lambda *_: (0.0, 1e20))
