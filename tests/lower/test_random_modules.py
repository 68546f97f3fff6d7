"""Random modules end in one line, or in a graph that computes what they compute."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gmpq.backends import reference
from gmpq.calib.sweep import sweep
from gmpq.errors import GmpqError
from gmpq.ir import FloatGraph, IntGraph
from gmpq.lower import lower
from gmpq.lower.fidelity import lowering_error
from gmpq.passes.cost import layer_names
from gmpq.passes.ptq import QuantizeOptions, quantize_network
from gmpq.policy import LayerBits
from tests.support.random_modules import RandomModule

SEEDS = int(os.environ.get("GMPQ_FUZZ_MODULES", "40"))
MOST_ERROR = 1e-4  # of the largest output


Result = TypeVar("Result")


def attempt(make: Callable[[], Result]) -> Result | None:
    """Return what ``make`` returns; None where it refuses in one line."""
    try:
        return make()
    except GmpqError as error:
        message = str(error)
    assert "\n" not in message
    return None


def lowered(module: RandomModule) -> FloatGraph | None:
    return attempt(lambda: lower(module, module.shape, "random"))


def quantized(graph: FloatGraph, batch: NDArray[np.float32], seed: int) -> IntGraph | None:
    draw = random.Random(seed)
    bits = {n: LayerBits(draw.randint(1, 8), draw.randint(1, 8)) for n in layer_names(graph)}
    statistics = sweep(graph, [batch, batch / 2], lambda _: None)
    return attempt(lambda: quantize_network(graph, bits, statistics, QuantizeOptions()))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_random_module(seed: int) -> None:
    module = RandomModule(seed).eval()
    graph = lowered(module)
    if graph is None:
        return
    batch = torch.randn(module.shape, generator=torch.Generator().manual_seed(seed)).numpy()
    assert lowering_error(module, graph, batch) < MOST_ERROR
    integers = quantized(graph, batch, seed)
    if integers is None:
        return
    values = reference.run(integers, {graph.inputs[0]: batch})
    for name in integers.outputs:
        assert values[name].shape == integers.values[name].shape


def test_enough_random_modules_lower() -> None:
    found = [lowered(RandomModule(seed).eval()) for seed in range(12)]
    assert sum(graph is not None for graph in found) >= 3
