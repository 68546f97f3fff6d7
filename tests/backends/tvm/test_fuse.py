from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from gmpq.backends import reference
from gmpq.backends.tvm.build import build
from gmpq.backends.tvm.fuse import fused_additions
from gmpq.backends.tvm.target import find
from gmpq.runtime import Network
from tests.builders import residual
from tests.strategies import random_input


def test_the_last_convolution_of_a_block_takes_its_addition() -> None:
    additions = fused_additions(residual())
    assert {name: add.name for name, add in additions.items()} == {"block.conv": "block.add"}


def test_a_value_that_others_read_is_kept() -> None:
    graph = residual()
    assert fused_additions(replace(graph, outputs=(*graph.outputs, "block.conv"))) == {}


def test_the_sum_equals_the_reference(tmp_path: Path) -> None:
    graph = residual()
    program = build(graph, find("native"), tmp_path).program
    assert "block.add" not in [step["node"] for step in program["steps"]]
    inputs = random_input(graph, 0)
    found = dict(Network(tmp_path, program).trace(inputs["x"]))
    assert "block.conv" not in found
    np.testing.assert_array_equal(reference.run(graph, inputs)["block.add"], found["block.add"])
