"""Instructions of emulated programs: counted, of the network alone, and alike each time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.emulation.instruction_counts import counted, instructions
from gmpq.backends.tvm.emulation.qemu import EmulatedProgram, missing
from gmpq.backends.tvm.target import find
from gmpq.ir import Conv2d, QParams, Window
from tests.support.single_layers import network_of, random_weight

REASON = missing(find("arm64"))
pytestmark = [
    pytest.mark.arm,
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]


def count(outputs: int, folder: Path) -> int:
    """Return the instructions of a 1x1 convolution of 16 channels on 64 pixels."""
    folder.mkdir(exist_ok=True)
    weight = random_weight(np.random.default_rng(0), (outputs, 16, 1, 1), 4)
    node = Conv2d("conv", ("x",), "y", weight, Window((1, 1)))
    graph = network_of(node, QParams.full(1.0, 0, 4), (8, 8), 1)
    target = find("arm64")
    program = EmulatedProgram(folder, build(graph, target, folder).program, target)
    return instructions(counted(program, {"image": np.zeros((1, 16, 8, 8), np.float32)}))


def test_a_layer_of_more_outputs_takes_more(tmp_path: Path) -> None:
    few, many = count(16, tmp_path / "few"), count(64, tmp_path / "many")
    products = 16 * 64  # of an output
    assert 16 * products / 16 < few < many  # sixteen products an instruction at most
    assert many < 64 * products  # far below one each, and no loading of libraries in it


def test_the_count_repeats(tmp_path: Path) -> None:
    first, second = (count(16, tmp_path) for _ in range(2))
    assert abs(first - second) < 0.02 * first  # the kernel of this machine has its say
