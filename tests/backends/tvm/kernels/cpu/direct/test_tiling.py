"""In which order pixels and blocks of outputs are walked, and what is fetched ahead."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from gmpq.backends.tvm.kernels.cpu.direct import direct
from gmpq.backends.tvm.kernels.cpu.direct.tiling import DirectShape, blocks_outside
from gmpq.backends.tvm.kernels.cpu.isa.site import Site
from gmpq.backends.tvm.kernels.layout import Layout
from gmpq.backends.tvm.plan.plan import Choice, Verdict, cheapest, plan
from gmpq.backends.tvm.target import Target, find
from gmpq.ir import Conv2d, QParams, Window
from tests.support.single_layers import network_of, random_weight

V3, ARM = find("x86-64-v3"), find("arm64")
KIB = 1 << 10


def pointwise(target: Target, size: int, inputs: int, outputs: int) -> Site:
    """Return the site of a 1x1 convolution of four bits."""
    weight = random_weight(np.random.default_rng(0), (outputs, inputs, 1, 1), 4)
    node = Conv2d("conv", ("x",), "y", weight, Window((1, 1)), 1)
    sites = []

    def choose(site: Site, choices: Sequence[Choice]) -> Verdict:
        sites.append(site)
        return cheapest(site, choices)

    plan(network_of(node, QParams.full(1.0, 3, 4), (size, size), 1), target, choose)
    return next(site for site in sites if isinstance(site.node, Conv2d))


@pytest.mark.parametrize(
    ("size", "inputs", "weights", "outside"),
    [
        pytest.param(7, 160, 64 * KIB, True, id="the image stays in the first-level cache"),
        pytest.param(28, 64, 32 * KIB, False, id="all weights stay in the second-level cache"),
        pytest.param(14, 512, 512 * KIB, True, id="only the image stays in the second-level cache"),
        pytest.param(56, 256, 160 * KIB, False, id="the image is larger than the weights"),
    ],
)
def test_what_is_read_again_stays_near(size: int, inputs: int, weights: int, outside: bool) -> None:
    x, y = (Layout(1, channels, size, size, channels) for channels in (inputs, 256))
    shape = DirectShape(Window((1, 1)), x, y, inputs // 4, inputs, 256, 8)
    assert blocks_outside(shape, weights, 1, 1, V3) is outside


@pytest.mark.parametrize(
    ("target", "size", "inputs", "outputs", "lines"),
    [
        pytest.param(V3, 7, 160, 320, 3, id="20 lines along seven rows"),
        pytest.param(V3, 56, 64, 64, 0, id="rows outside"),
        pytest.param(V3, 7, 2048, 320, 1, id="a large block, a line a step"),
        pytest.param(ARM, 7, 160, 320, -1, id="arm"),
    ],
)
def test_weights_of_the_next_block_are_fetched(
    target: Target, size: int, inputs: int, outputs: int, lines: int
) -> None:
    """On x86 one more instruction aligns the stack."""
    call = direct.candidates(pointwise(target, size, inputs, outputs))[0].build()
    assert str(call.function.script()).count("llvm.prefetch") == lines + 1
