"""What kernels say they multiply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.kernels.base import Work
from gmpq.backends.tvm.kernels.cpu.isa.arm_dot import Smlal
from gmpq.backends.tvm.kernels.cpu.isa.dot import Int32Dot
from gmpq.backends.tvm.kernels.cpu.isa.x86 import Int16Dot, Vpdpbusd, Vpmaddubsw, Vpmaddwd
from gmpq.backends.tvm.plan.plan import Choice, Verdict, cheapest, plan
from gmpq.backends.tvm.target import Target, find
from gmpq.ir import Conv2d, IntGraph, Linear, Padding, QParams, Window
from tests.support.single_layers import V3, network_of, random_linear, random_weight

VNNI = find("x86-64-v4-vnni")
AMX = replace(VNNI, name="amx", features=VNNI.features | {"amx-tile", "amx-int8"})
COUNTING = replace(VNNI, name="vpopcntd", features=VNNI.features | {"avx512vpopcntdq"})
ARM = find("arm64")
RUN, ONE, WORDS = "vpmaddubsw+vpaddw", "vpmaddubsw+vpmaddwd+vpaddd", "vpmaddwd+vpaddd"


@pytest.mark.parametrize(
    ("dot", "instruction"),
    [
        (Vpdpbusd(), "vpdpbusd"),
        (Vpmaddubsw(), ONE),
        (Vpmaddubsw(run=9), RUN),
        (Vpmaddwd(), WORDS),
        (Int16Dot(), WORDS),
        (Int16Dot(16, fused=True), "vpdpwssd"),
        (Smlal(), "smlal"),
        (Int32Dot(), ""),
    ],
    ids=str,
)
def test_every_dot_product_names_its_instructions(
    dot: Vpdpbusd | Vpmaddubsw | Vpmaddwd | Int16Dot | Smlal | Int32Dot, instruction: str
) -> None:
    assert dot.instruction == instruction


def convolution(groups: int, bits: int) -> IntGraph:
    """Return a 3x3 convolution of 32 channels on two images of 9x10, in blocks of channels."""
    weight = random_weight(np.random.default_rng(1), (32, 32 // groups, 3, 3), bits)
    window = Window((3, 3), padding=Padding(1, 1, 1, 1))
    conv = Conv2d("conv", ("x",), "y", weight, window, groups)
    return network_of(conv, QParams.full(1.0, 0, bits), (9, 10), 2)


def works(graph: IntGraph, target: Target) -> dict[tuple[str, str], Work | None]:
    """Return the work of every candidate of the layer, by family and start of configuration."""
    found: dict[tuple[str, str], Work | None] = {}

    def choose(site: object, choices: Sequence[Choice]) -> Verdict:
        for family, candidate in choices:
            found[family.name, candidate.configuration.split(",")[0]] = candidate.work
        return Verdict(choices[0])

    plan(graph, target, choose)
    return found


MACS = 2 * 9 * 10 * 32 * 32 * 9


@pytest.mark.parametrize(
    ("family", "groups", "bits", "target", "expected"),
    [
        pytest.param("direct", 1, 8, VNNI, Work(MACS, "vpdpbusd"), id="direct"),
        pytest.param("direct", 4, 4, V3, Work(MACS // 4, ONE), id="direct-of-groups"),
        pytest.param("direct", 1, 8, ARM, Work(MACS, ""), id="direct-of-any-processor"),
        pytest.param("direct16", 1, 4, V3, Work(MACS, RUN), id="direct16"),
        pytest.param("direct_words", 1, 8, V3, Work(MACS, WORDS), id="direct_words"),
        pytest.param("amx", 1, 8, AMX, Work(MACS, "tdpbusd"), id="amx"),
        pytest.param(
            "bitserial", 1, 1, COUNTING, Work(MACS, "vpandd+vpopcntd+vpaddd"), id="bitserial"
        ),
        pytest.param("depthwise", 32, 8, VNNI, Work(MACS // 32, "vpdpwssd"), id="depthwise"),
        pytest.param("depthwise_rows", 32, 8, V3, Work(MACS // 32, WORDS), id="depthwise_rows"),
        pytest.param(
            "depthwise_rows", 32, 8, VNNI, Work(MACS // 32, "vpdpbusd"), id="depthwise_rows-vnni"
        ),
    ],
)
def test_a_kernel_multiplies_all_codes_by_all_weights(
    family: str, groups: int, bits: int, target: Target, expected: Work
) -> None:
    found = works(convolution(groups, bits), target)
    assert {work for (name, _), work in found.items() if name == family} == {expected}


def test_winograd_multiplies_positions_instead_of_windows() -> None:
    found = works(convolution(1, 2), V3)
    for size in (2, 3, 4):
        work = found["winograd", f"F({size}x{size})"]
        assert work is not None
        tiles = 2 * -(-9 // size) * -(-10 // size)
        once = tiles * 32 * 32  # of one position
        splits, rest = divmod(work.executed_macs - (size + 2) ** 2 * once, once)
        assert rest == 0
        assert 0 <= splits <= (size + 2) ** 2  # weights of two parts are multiplied twice


def test_winograd_of_folded_rows_and_columns_multiplies_four_times_the_channels() -> None:
    weight = random_weight(np.random.default_rng(4), (32, 3, 7, 7), 2)
    window = Window((7, 7), (2, 2), Padding(3, 3, 3, 3))
    conv = Conv2d("conv", ("x",), "y", weight, window)
    found = works(network_of(conv, QParams.full(1.0, 0, 4), (36, 36), 1), V3)
    (work,) = {work for (name, _), work in found.items() if name == "winograd"}
    tiles, positions = 6 * 6, 6 * 6  # of F(3x3) on 18 x 18 outputs, for a kernel of 4x4
    assert work == Work(positions * tiles * 3 * 4 * 32, WORDS)


def test_steps_in_pairs_multiply_three_times() -> None:
    graph = convolution(1, 8)
    conv = graph.nodes[1]
    assert isinstance(conv, Conv2d)
    codes = np.clip(conv.weight.codes, -16, 15)
    codes[:, :4, 0, 0] = (127, 127, 127, 127)  # of one step, which nothing can be added to
    node = replace(conv, weight=replace(conv.weight, codes=codes))
    flipped = replace(graph, nodes=(graph.nodes[0], node, graph.nodes[2]))
    found = works(flipped, V3).items()
    own = [work for (name, _), work in found if name == "direct_flip" and work]
    assert {work.instruction for work in own} == {ONE}
    steps = 9 * 8  # 35 pairs, and two steps alone
    assert {work.executed_macs for work in own} == {round(MACS * (35 * 3 + 2 * 2) / 2 / steps)}


def test_packed_weights_are_multiplied_digit_by_digit() -> None:
    graph = random_linear(np.random.default_rng(0), (8, 6), (1, 512, 256))
    (codes,) = (node.weight.codes for node in graph.nodes if isinstance(node, Linear))
    spread = int(codes.max()) - int(codes.min())
    digits = {1: 1, 2: 1, 3: 2, 4: 1, 5: 2, 6: 2}[max(1, spread.bit_length())]
    found = {work for (name, _), work in works(graph, VNNI).items() if name == "gemv"}
    assert found == {Work(digits * 512 * 256, "vpdpbusd")}


def test_a_program_tells_what_its_steps_multiply(tmp_path: Path) -> None:
    built = build(convolution(1, 8), V3, tmp_path, cheapest)
    quantize, conv, dequantize = built.program.steps
    work = built.plan.steps[1].work
    assert work is not None
    assert (conv.executed_macs, conv.instruction) == (work.executed_macs, work.instruction)
    assert "products" not in {**quantize.to_json(), **dequantize.to_json()}
    assert built.program.stack_bytes >= 0
