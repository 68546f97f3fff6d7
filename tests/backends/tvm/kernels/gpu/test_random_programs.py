"""Whole programs for GPUs, emulated: every quantized tensor of random networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gmpq.backends import reference
from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.emulation.open import Unavailable, open_compiled
from gmpq.backends.tvm.plan.plan import PlanOptions
from gmpq.backends.tvm.target import find
from tests.support.gpu.layers import emulated
from tests.support.strategies import random_graph, random_input

pytestmark = emulated


@pytest.mark.parametrize("name", ["cuda-sm_75", "cuda-sm_80"])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("fuse", [True, False])
def test_every_value_equals_the_reference(name: str, seed: int, fuse: bool, tmp_path: Path) -> None:
    graph, target = random_graph(seed), find(name)
    program = build(graph, target, tmp_path, options=PlanOptions(fuse=fuse)).program
    compiled = open_compiled(tmp_path, program, target)
    assert not isinstance(compiled, Unavailable), compiled.reason
    inputs = random_input(graph, seed)
    expected = reference.run(graph, inputs)
    for value, found in compiled.trace(inputs).items():
        if found.dtype == np.float32:
            np.testing.assert_allclose(found, expected[value], rtol=1e-5, atol=1e-6)
        else:
            np.testing.assert_array_equal(found, expected[value], err_msg=value)
    compiled.close()
