"""Memory of whole networks and of single kernels stays within what docs/kernels.md promises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from gmpq import models
from gmpq.backends.tvm.kernels.cpu.bitserial import bitserial
from gmpq.backends.tvm.kernels.cpu.depthwise import x86_bytes
from gmpq.backends.tvm.kernels.cpu.direct import x86_dense_steps, x86_pixels, x86_widened
from gmpq.backends.tvm.kernels.cpu.isa.builder import LINE, scratch_bytes
from gmpq.backends.tvm.kernels.cpu.winograd import winograd
from gmpq.backends.tvm.plan.plan import Choice, Verdict, plan
from gmpq.backends.tvm.target import Target, find
from gmpq.calib.collect import collect
from gmpq.ir import Conv2d, IntGraph, Padding, QParams, Window
from gmpq.lower import lower
from gmpq.models.random import random_images, randomize
from gmpq.passes import cost
from gmpq.passes.ptq import QuantizeOptions, quantize_network
from gmpq.policy import LayerBits
from tests.support.single_layers import V3, network_of, random_weight

VNNI = find("x86-64-v4-vnni")
AMX = replace(VNNI, name="amx", features=VNNI.features | {"amx-tile", "amx-int8"})
COUNTING = replace(VNNI, name="vpopcntd", features=VNNI.features | {"avx512vpopcntdq"})

LARGEST = 1.5  # workspace over what lives at one step
SLACK = 512  # each buffer ends with a whole cache line, and some have a vector more
STACK_BYTES = {  # all others: none
    "winograd": winograd.SCRATCH_BYTES + SLACK,
    "direct_words": x86_widened.STAGE_BYTES + SLACK,
    "direct_dense": x86_dense_steps.GATHERED_BYTES + SLACK,
    "direct_pixels": x86_pixels.STAGE_BYTES + x86_pixels.SUMS_BYTES + SLACK,
    "bitserial": bitserial.SCRATCH_BYTES + SLACK,
    "amx": (6 << 10) + SLACK,
    "depthwise_bytes": x86_bytes.STAGE_BYTES,
    **dict.fromkeys(("direct", "direct16", "direct_flip", "depthwise_rows"), LINE),  # aligned
}
VNNI_STACK_BYTES = {**STACK_BYTES, "winograd": winograd.INTERLEAVED_BYTES + SLACK}


def network(name: str, bits: int) -> IntGraph:
    """Return a built-in network with random weights on small images."""
    shape = (3, 64, 64)
    module = models.find(name).build().eval()
    randomize(module, 0, shape)
    graph = lower(module, (1, *shape), name)
    images = random_images(2, shape, torch.Generator().manual_seed(0))
    wanted = dict.fromkeys(cost.layer_names(graph), LayerBits(bits, bits))
    return quantize_network(graph, wanted, collect(graph, [images]), QuantizeOptions())


@pytest.mark.parametrize(
    ("name", "bits", "target"),
    [
        pytest.param("resnet18", 8, VNNI, id="resnet18-w8a8-vnni"),
        pytest.param("resnet50", 8, VNNI, id="resnet50-w8a8-vnni", marks=pytest.mark.slow),
        pytest.param("mobilenet_v2", 4, VNNI, id="mobilenet_v2-w4a4-vnni"),
        pytest.param("mobilenet_v2", 8, V3, id="mobilenet_v2-w8a8-avx2"),
        pytest.param("cifar_resnet20", 4, V3, id="cifar_resnet20-w4a4-avx2"),
    ],
)
def test_a_workspace_is_little_more_than_what_lives_at_once(
    name: str, bits: int, target: Target
) -> None:
    memory = plan(network(name, bits), target).memory
    assert memory.live_bytes <= memory.size_bytes <= LARGEST * memory.live_bytes


def square(size: int, channels: int, bits: int, groups: int) -> IntGraph:
    """Return one 3x3 convolution."""
    rng = np.random.default_rng(0)
    weight = random_weight(rng, (channels, channels // groups, 3, 3), bits)
    window = Window((3, 3), padding=Padding(1, 1, 1, 1))
    conv = Conv2d("conv", ("x",), "y", weight, window, groups)
    return network_of(conv, QParams.full(1.0, 0, bits), (size, size), 1)


@pytest.mark.parametrize("target", [V3, VNNI, AMX, COUNTING], ids=lambda t: t.name)
@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize(("size", "channels", "groups"), [(56, 64, 1), (14, 128, 1), (56, 64, 64)])
def test_every_candidate_keeps_little_on_the_stack(
    size: int, channels: int, groups: int, bits: int, target: Target
) -> None:
    found: dict[str, int] = {}

    def choose(_: object, choices: Sequence[Choice]) -> Verdict:
        for family, candidate in choices:
            size = scratch_bytes(candidate.build().function)
            found[family.name] = max(size, found.get(family.name, 0))
        return Verdict(choices[0])

    plan(square(size, channels, bits, groups), target, choose)
    assert any(found.values())
    limits = VNNI_STACK_BYTES if "avx512vnni" in target.features else STACK_BYTES
    for family, size_bytes in found.items():
        assert size_bytes <= limits.get(family, 0), family
