"""Winograd kernels of ARM on emulated processors equal the reference, by every instruction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gmpq.backends.tvm.emulation.qemu import missing
from gmpq.backends.tvm.kernels.cpu.winograd.arm_mmla import MatrixProduct, matrix_tiles
from gmpq.backends.tvm.kernels.cpu.winograd.register_tiles import ProductSizes
from gmpq.backends.tvm.target import find
from gmpq.ir import Conv2d, IntGraph, Padding, QParams, Window
from tests.support.single_layers import check, network_of, random_weight

REASON = missing(find("arm64"))
pytestmark = pytest.mark.arm
emulated = pytest.mark.skipif(REASON is not None, reason=str(REASON))
INSTRUCTIONS = (
    ("arm64", "neon", 5),
    ("arm64", "smlal", 8),
    ("arm64-dotprod", "sdot", 5),
    ("arm64-i8mm", "smmla", 5),
)
EVEN = Padding(1, 1, 1, 1)


def layer(
    seed: int,
    bits: tuple[int, int],
    sizes: tuple[int, int, int, int],
    window: Window,
    batch: int = 1,
) -> IntGraph:
    """Return a convolution of ``sizes``: inputs, outputs, rows, columns; ``bits`` as elsewhere."""
    rng = np.random.default_rng(seed)
    inputs, outputs, *image = sizes
    weight = random_weight(rng, (outputs, inputs, *window.kernel), bits[1])
    q = QParams.full(1.0, int(rng.integers(0, 1 << bits[0])), bits[0])
    node = Conv2d("conv", ("x",), "y", weight, window)
    return network_of(node, q, (image[0], image[1]), batch)


@emulated
@pytest.mark.parametrize(("target", "form", "most"), INSTRUCTIONS)
@pytest.mark.parametrize("seed", range(8))
def test_random_layers(seed: int, target: str, form: str, most: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    input_bits, weight_bits = (int(n) for n in rng.integers(1, most + 1, 2))
    inputs, outputs = (int(n) for n in rng.choice([1, 3, 17, 24, 64, 80], 2))
    stride, size = 1 + seed % 2, 2 + seed % 5
    window = Window((3, 3), (stride, stride), Padding(*(int(n) for n in rng.integers(0, 2, 4))))
    sizes = inputs, outputs, 3 * size, 4 * size
    graph = layer(seed, (input_bits, weight_bits), sizes, window, 1 + seed % 2)
    check(graph, find(target), tmp_path, "winograd", seed, form)


WORDS = (  # what no bytes hold
    *(("F(2x2)", bits) for bits in ((8, 8), (7, 5), (8, 1))),
    *(("F(3x3)", bits) for bits in ((8, 8), (5, 5), (1, 8))),
    *(("F(4x4)", bits) for bits in ((8, 8), (6, 6), (4, 4), (3, 1), (2, 2))),
    *(("F(4x4) by 2", bits) for bits in ((8, 8), (6, 4))),
)


@emulated
@pytest.mark.parametrize(("transform", "bits"), WORDS)
def test_words(transform: str, bits: tuple[int, int], tmp_path: Path) -> None:
    stride = 2 if transform.endswith("2") else 1
    window = Window((3, 3), (stride, stride), Padding(1, 0, 0, 1))
    graph = layer(sum(bits), bits, (13, 10, 9 * stride, 7 * stride), window)
    assert check(graph, find("arm64"), tmp_path, "winograd", sum(bits), f"{transform}, ")


@emulated
@pytest.mark.parametrize(
    ("target", "form", "bits"), [("arm64", "smlal", (8, 8)), ("arm64-i8mm", "smmla", (1, 1))]
)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_first_layers(
    target: str, form: str, bits: tuple[int, int], channels: int, tmp_path: Path
) -> None:
    window = Window((7, 7), (2, 2), Padding(3, 2, 3, 2))
    graph = layer(channels, bits, (channels, 9, 14, 18), window)
    assert check(graph, find(target), tmp_path, "winograd", channels, form)


@emulated
@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (2, 6), (6, 6)])
@pytest.mark.parametrize("number", range(3))
def test_matrices_of_an_odd_number_of_tiles(
    rows: int, columns: int, number: int, tmp_path: Path
) -> None:
    graph = layer(rows * columns, (4, 4), (20, 6, rows, columns), Window((3, 3), padding=EVEN), 2)
    assert check(graph, find("arm64-i8mm"), tmp_path, "winograd", number, "smmla")


@emulated
@pytest.mark.parametrize("number", range(3))
def test_matrices_add_split_weights(number: int, tmp_path: Path) -> None:
    graph = layer(0, (4, 5), (12, 8, 7, 9), Window((3, 3), padding=EVEN))
    node = graph.nodes[1]
    assert isinstance(node, Conv2d)
    node.weight.codes[:] = 15  # nine of them are 135: a position has two summands
    assert check(graph, find("arm64-i8mm"), tmp_path, "winograd", number, "smmla")


@emulated
@pytest.mark.parametrize(
    ("target", "bits"), [("arm64", 8), ("arm64", 4), ("arm64-i8mm", 4), ("arm64-i8mm", 2)]
)
def test_kernels_transformed_by_tasks(target: str, bits: int, tmp_path: Path) -> None:
    graph = layer(bits, (bits, bits), (48, 33, 7, 7), Window((3, 3), padding=EVEN))
    form = f"{bits}-bit kernels transformed"
    assert check(graph, find(target), tmp_path, "winograd", bits, form)


@emulated
def test_matrices_without_dot_products(tmp_path: Path) -> None:
    target, window = find("aarch64-linux-gnu,cortex-a53,+i8mm"), Window((3, 3), padding=EVEN)
    wide = layer(1, (8, 8), (9, 8, 6, 6), window)
    assert not check(wide, target, tmp_path, "winograd", 0)
    assert check(layer(1, (4, 4), (9, 8, 6, 6), window), target, tmp_path, "winograd", 0, "smmla")


def test_matrices_hold_an_even_number_of_tiles() -> None:
    found = list(matrix_tiles(find("arm64-i8mm"), ProductSizes(5, 17, 20, 6)))
    assert {tile.tiles for tile in found} == {6}
    assert {tile.rows for tile in found} == {2, 4, 6}
    assert {tile.stored for tile in found} == {24}
    assert {tile.depth for tile in found} == {3}


def test_matrices_take_two_outputs_times_eight_channels() -> None:
    weights = np.arange(16 * 17, dtype=np.int16).reshape(1, 16, 17).astype(np.int8)
    tile = MatrixProduct(2, 2, 2, 4, 24, 3)
    packed = tile.pack(weights)  # [parts, groups, depth, couples, outputs, channels]
    assert packed.shape == (1, 2, 3, 4, 2, 8)
    np.testing.assert_array_equal(weights[0, 10:12, 8:16], packed[0, 1, 1, 1])
    assert (packed[0, :, 2, :, :, 1:] == 0).all()
