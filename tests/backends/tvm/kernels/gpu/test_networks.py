"""Whole networks for GPUs, emulated with copies at once and late: every quantized tensor."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from gmpq import models
from gmpq.backends import reference
from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.emulation.cuda.program import CudaProgram
from gmpq.backends.tvm.target import GpuTarget
from gmpq.backends.tvm.target.gpu import ROWS
from gmpq.calib.collect import collect
from gmpq.ir import IntGraph
from gmpq.lower import lower
from gmpq.passes import cost
from gmpq.passes.ptq import QuantizeOptions, quantize_network
from gmpq.policy import LayerBits
from tests.support.gpu.layers import emulated
from tests.support.networks import image, randomized

pytestmark = [emulated, pytest.mark.slow]
TARGETS = {target.arch: target for target in ROWS}
MIXED = (LayerBits(8, 8), LayerBits(4, 8), LayerBits(3, 5), LayerBits(6, 4), LayerBits(2, 2))
BITS = {
    "w8a8": MIXED[:1],
    "w4a8": MIXED[1:2],
    "w4a4": (LayerBits(4, 4),),
    "w2a2": MIXED[4:],
    "mixed": MIXED,
}
CASES = (
    *(("resnet18", 64, bits, "sm_80") for bits in BITS),
    *(("resnet18", 64, bits, "sm_75") for bits in ("w8a8", "mixed")),
    ("resnet18", 64, "mixed", "sm_90"),
    *(
        (network, 96, bits, "sm_80")
        for network in ("mobilenet_v2", "efficientnet_lite0")
        for bits in ("w8a8", "w4a4", "mixed")
    ),
)


@cache
def quantized(name: str, size: int, bits: str) -> IntGraph:
    """Return a network with random weights, whose layers take the bits in turn."""
    shape = (1, 3, size, size)
    graph = lower(randomized(models.find(name).build(), shape), shape, name)
    turns = BITS[bits]
    layers = cost.layer_names(graph)
    chosen = {layer: turns[i % len(turns)] for i, layer in enumerate(layers)}
    statistics = collect(graph, [torch.cat([image(shape, seed) for seed in range(2)])])
    return quantize_network(graph, chosen, statistics, QuantizeOptions())


def check(name: str, size: int, bits: str, target: GpuTarget, folder: Path) -> None:
    """Assert that the shipped program has every value of the reference."""
    graph = quantized(name, size, bits)
    program = build(graph, target, folder).program
    inputs = {graph.inputs[0]: image((1, 3, size, size), 7).numpy()}
    expected = reference.run(graph, inputs)
    compiled = CudaProgram.emulate(folder, program, target)
    found = compiled.trace(inputs)
    compiled.close()
    assert set(graph.outputs) <= set(found)
    for value, codes in found.items():
        np.testing.assert_array_equal(codes, expected[value], err_msg=value)


@pytest.mark.parametrize(("name", "size", "bits", "arch"), CASES)
def test_a_network(name: str, size: int, bits: str, arch: str, tmp_path: Path) -> None:
    check(name, size, bits, TARGETS[arch], tmp_path)


def test_a_network_with_late_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GMPQ_LATE_COPIES", "1")
    monkeypatch.setenv("GMPQ_BACKWARDS", "1")
    check("resnet18", 64, "mixed", TARGETS["sm_80"], tmp_path)
