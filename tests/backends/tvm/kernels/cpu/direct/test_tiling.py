"""In which order pixels and blocks of outputs are walked, and what is fetched ahead."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from gmpq.backends.tvm.kernels.cpu.direct import direct
from gmpq.backends.tvm.kernels.cpu.direct.tiling import DirectShape, blocks_outside
from gmpq.backends.tvm.kernels.cpu.isa.site import Site
from gmpq.backends.tvm.kernels.layout import Layout
from gmpq.backends.tvm.plan.plan import Choice, Verdict, cheapest, plan
from gmpq.backends.tvm.target import Target, find
from gmpq.ir import Conv2d, Padding, QParams, Window
from tests.support.single_layers import check, network_of, random_weight
from tests.support.vnni import on_any_processor

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


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        pytest.param(512, {"3 vectors, 2 at the end"}, id="32 vectors"),
        pytest.param(80, {"2 vectors, 1 at the end", "4 vectors, 1 at the end"}, id="five"),
        pytest.param(48, {"2 vectors, 1 at the end"}, id="three"),
        pytest.param(16, set(), id="one"),
    ],
)
def test_a_narrower_last_block_begins_at_its_width(outputs: int, expected: set[str]) -> None:
    site = pointwise(find("x86-64-v4-vnni"), 7, 512, outputs)
    names = [candidate.configuration for candidate in direct.candidates(site, most=1000)]
    found = {name.split(" x ")[1].rsplit(", ", 1)[0] for name in names if "at the end" in name}
    assert found == expected


@pytest.mark.parametrize("target", [V3, ARM], ids=lambda target: target.name)
def test_other_instructions_move_the_last_block(target: Target) -> None:
    candidates = direct.candidates(pointwise(target, 7, 512, 80), most=1000)
    assert not any("at the end" in candidate.configuration for candidate in candidates)


@pytest.mark.parametrize("outputs", [41, 80, 120])
@pytest.mark.parametrize("seed", range(6))
def test_narrower_last_blocks_equal_the_reference(
    seed: int, outputs: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rng, target = np.random.default_rng(seed), on_any_processor(monkeypatch)
    size, bits = (1 + 2 * (seed % 2), int(rng.integers(2, 9))), int(rng.integers(1, 9))
    inputs = int(rng.choice([5, 40, 200]))  # the next block of many channels is fetched ahead
    weight = random_weight(rng, (outputs, inputs, size[0], size[0]), bits)
    window = Window((size[0],) * 2, (1 + seed % 3 // 2,) * 2, Padding(1, 0, size[0] // 2, 0))
    node = Conv2d("conv", ("x",), "y", weight, window)
    q = QParams.full(1.0, int(rng.integers(0, 1 << size[1])), size[1])
    graph = network_of(node, q, (int(rng.integers(4, 8)), 7), batch=1 + seed % 2)
    assert check(graph, target, tmp_path, "direct", seed, "at the end")
