"""Every kernel of a layer equals the reference: odd shapes, all bits, every tile, both forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gmpq.backends.tvm.target import Target, find
from tests.support.gpu.layers import emulated, random_layer, shown
from tests.support.single_layers import check, random_linear, writing_float32

pytestmark = emulated
FORMS = (find("cuda-sm_75"), find("cuda-sm_80"))  # copies by registers, and asynchronous
targets = pytest.mark.parametrize("target", FORMS, ids=[target.name for target in FORMS])


@targets
@pytest.mark.parametrize("seed", range(16))
def test_matrix_products_equal_the_reference(seed: int, target: Target, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    bits = int(rng.integers(1, 9)), int(rng.integers(1, 9))
    assert check(random_layer(rng, bits), target, tmp_path, "mma", seed)


@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_direct_convolutions_equal_the_reference(seed: int, groups: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    bits = int(rng.integers(1, 9)), int(rng.integers(1, 9))
    assert check(random_layer(rng, bits, groups), FORMS[1], tmp_path, "direct", seed)


@pytest.mark.parametrize("family", ["mma", "direct"])
@pytest.mark.parametrize("seed", range(4))
def test_fully_connected_layers_equal_the_reference(seed: int, family: str, tmp_path: Path) -> None:
    graph = shown(random_linear(np.random.default_rng(seed), (8, 8)))
    assert check(graph, FORMS[1], tmp_path, family, seed)


@pytest.mark.parametrize("family", ["mma", "direct"])
def test_layers_write_float32(family: str, tmp_path: Path) -> None:
    graph = writing_float32(random_layer(np.random.default_rng(7), (8, 8)))
    assert check(shown(graph), FORMS[1], tmp_path, family, 0)
