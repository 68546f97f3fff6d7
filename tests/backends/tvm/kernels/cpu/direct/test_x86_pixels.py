"""Direct convolution whose lanes are pixels: refusals, tiles and programs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gmpq.backends.tvm.kernels.cpu.direct.x86_pixels_tiles import pixels_of
from gmpq.backends.tvm.plan.plan import plan
from gmpq.backends.tvm.target import Target, find
from gmpq.ir import Conv2d, QParams, Window
from tests.support.single_layers import (
    V3,
    WITHOUT_VNNI,
    check,
    layer_of_many_bits,
    network_of,
    random_weight,
)

here = [pytest.param(t, id=t.name) for t in (find("x86-64-v3"), WITHOUT_VNNI) if t.runs_here()]


def refusal(shape: tuple[int, int, int, int], size: tuple[int, int], bits: int = 8) -> str:
    """Return why a convolution of weights of that shape on so large an image is refused."""
    weight = random_weight(np.random.default_rng(0), shape, bits)
    if bits == 8:
        weight.codes[:] = np.maximum(weight.codes, -127)
    conv = Conv2d("conv", ("x",), "y", weight, Window(shape[2:]))
    step = plan(network_of(conv, QParams.full(1.0, 0, bits), size, 1), V3).steps[1]
    return step.refusals.get("direct_pixels", "")


@pytest.mark.parametrize(
    ("shape", "size", "bits", "expected"),
    [
        ((16, 32, 3, 3), (7, 9), 8, ""),
        ((16, 32, 3, 3), (4, 5), 8, "an image has fewer than 8 pixels"),
        ((16, 40, 3, 3), (7, 9), 8, "pixels do not begin with 16 channels in memory"),
        ((16, 2048, 3, 3), (7, 9), 8, "8 pixels read 144 KiB of input, more than 132"),
        ((16, 32, 3, 3), (7, 9), 4, "direct16 adds more than pairs"),
    ],
)
def test_refusals_tell_why(
    shape: tuple[int, int, int, int], size: tuple[int, int], bits: int, expected: str
) -> None:
    assert expected in refusal(shape, size, bits)
    assert bool(expected) == bool(refusal(shape, size, bits))


def test_minus_128_is_refused() -> None:
    weight = random_weight(np.random.default_rng(0), (16, 32, 3, 3), 8)
    weight.codes[3, 4, 1, 1] = -128
    conv = Conv2d("conv", ("x",), "y", weight, Window((3, 3)))
    steps = plan(network_of(conv, QParams.full(1.0, 0, 8), (7, 9), 1), V3).steps
    assert steps[1].refusals["direct_pixels"] == "a weight of -128 has no opposite"


@pytest.mark.parametrize(
    ("count", "expected"),
    [(49, (4, 2, 1)), (196, (4, 7, 4)), (8, (1, 1, 1)), (40, (3, 2, 1)), (3136, (4, 98, 98))],
)
def test_tiles_are_as_equal_as_can_be(count: int, expected: tuple[int, int, int]) -> None:
    pixels = pixels_of(count, 4)
    assert (pixels.most, pixels.tiles, pixels.larger) == expected


@pytest.mark.parametrize("target", here)
@pytest.mark.parametrize("seed", range(16))
def test_programs_equal_the_reference(seed: int, target: Target, tmp_path: Path) -> None:
    rng, kind = np.random.default_rng(seed), seed % 4
    inputs = int(rng.choice([13, 16, 31, 48]))  # stored in whole vectors
    outputs = int(rng.choice([3, 8, 17, 40]))
    node, q = layer_of_many_bits(rng, kind, inputs, outputs, 60 if kind else 28)
    size = (7, 9) if seed < 8 else (15, 23)  # some tiles, of two sizes
    graph = network_of(node, q, size, batch=1 + seed % 2)
    assert check(graph, target, tmp_path, "direct_pixels", seed)
