from __future__ import annotations

import pytest

from gmpq.errors import SearchError
from gmpq.policy import LayerBits
from gmpq.search.ilp.baselines import TOLERANCE, draw, random, uniform
from gmpq.search.ilp.space import Layer, Space

WIDE = LayerBits(8, 8)
MACS = [1_000_000 * (1 + index % 5) for index in range(18)]


def space() -> Space:
    middle = (Layer(f"layer{i}", macs, 10) for i, macs in enumerate(MACS))
    aside = Layer("aside", 1, 1, WIDE, auxiliary=True)
    return Space((Layer("first", 1, 1, WIDE), *middle, aside, Layer("last", 1, 1, WIDE)))


def test_uniform_bits_leave_the_ends() -> None:
    bits = uniform(space(), LayerBits(3, 4))
    assert bits["first"] == bits["last"] == WIDE
    assert {bits[f"layer{i}"] for i in range(18)} == {LayerBits(3, 4)}
    assert "aside" not in bits


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("mean", [4.2, 9.0, 35.5])
def test_random_bits_meet_the_mean(mean: float, seed: int) -> None:
    bits = random(space(), mean, seed)
    assert list(bits) == ["first", *(f"layer{i}" for i in range(18)), "last"]
    pairs = [bits[f"layer{i}"] for i in range(18)]
    found = sum(macs * b.w * b.a for macs, b in zip(MACS, pairs, strict=True)) / sum(MACS)
    assert abs(found / mean - 1) <= TOLERANCE
    assert bits == random(space(), mean, seed)


def test_only_the_given_bits_are_drawn() -> None:
    drawn = draw(MACS, (2, 4, 8), 20.0, seed=0)
    assert {number for b in drawn for number in (b.w, b.a)} <= {2, 4, 8}


def test_a_mean_out_of_reach_is_told() -> None:
    with pytest.raises(SearchError, match=r"2 to 6 bits has a mean w x a of 40: use 4 to 36"):
        draw(MACS, (2, 3, 4, 5, 6), 40.0, seed=0)
