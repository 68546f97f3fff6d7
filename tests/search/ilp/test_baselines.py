from __future__ import annotations

from dataclasses import replace

import pytest

from gmpq.errors import SearchError
from gmpq.policy import LayerBits
from gmpq.search.ilp.baselines import TOLERANCE, draw, random, uniform
from gmpq.search.ilp.space import Layer, Space

WIDE = LayerBits(8, 8)
FIRST_DRAW = "33 44 22 64 32 42 24 22 32 22 64 54 62 32 23 22 32 33"  # w and a, of seed 1
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
    drawn = draw(replace(space(), weight_bits=(2, 4, 8), input_bits=(2, 4, 8)), 20.0, seed=0)
    assert {number for b in drawn for number in (b.w, b.a)} <= {2, 4, 8}


def test_weights_and_inputs_have_bits_of_their_own() -> None:
    drawn = draw(replace(space(), weight_bits=(2, 3), input_bits=(4, 6, 8)), 15.0, seed=0)
    assert {b.w for b in drawn} <= {2, 3}
    assert {b.a for b in drawn} <= {4, 6, 8}


def test_draws_of_a_seed_stay() -> None:
    drawn = draw(space(), 9.0, seed=1)
    assert " ".join(f"{b.w}{b.a}" for b in drawn) == FIRST_DRAW


def test_a_mean_out_of_reach_is_reported() -> None:
    with pytest.raises(SearchError, match=r"2 to 6 bits has a mean w x a of 40: use 4 to 36"):
        draw(space(), 40.0, seed=0)
