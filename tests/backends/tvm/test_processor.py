from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gmpq.backends import reference
from gmpq.backends.tvm.build import build
from gmpq.backends.tvm.emulator import processor
from gmpq.backends.tvm.processor import Processor, parse
from gmpq.backends.tvm.target import find
from gmpq.errors import TargetError
from gmpq.runtime import Network
from tests.strategies import random_graph, random_input

ARM, ARM32, X86 = "aarch64-linux-gnu", "arm-linux-gnueabihf", "x86_64-linux-gnu"


def test_a_processor_with_features() -> None:
    found = parse(f"{ARM},cortex-a53,+dotprod,+crc")
    assert found == Processor(ARM, "cortex-a53", ("+dotprod", "+crc"))
    assert {"dotprod", "crc", "neon"} <= found.features()
    assert "dotprod" not in parse(f"{ARM},cortex-a53").features()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("aarch64-linux,cortex-a55", r"triple 'aarch64-linux' is unknown \(did you mean aarch64-l"),
        ("mips,24kc", "triple 'mips' is unknown: choose one of x86_64-linux-gnu, aarch64-linux-"),
        (f"{ARM},cortex-a550", r"processor 'cortex-a550' is unknown \(did you mean cortex-a55\b"),
        (f"{X86},pi", "processor 'pi' is unknown: LLVM has none like it"),
        (f"{ARM},", "processor '' is unknown"),
        (f"{ARM},cortex-a55,+dotprud", r"feature 'dotprud' is unknown \(did you mean dotprod\b"),
        (f"{ARM},cortex-a55,+", "feature '' is unknown"),
        (f"{ARM},cortex-a55,dotprod", r"'dotprod' is no feature: write \+FEATURE"),
        (f"{ARM},cortex-a55,-neon", r"'-neon' is no feature: write \+FEATURE"),
        (f"{ARM32},cortex-m4", "cortex-m4 is no Armv7-A processor with VFPv3 or newer"),
        (f"{ARM32},arm926ej-s", "arm926ej-s is no Armv7-A processor"),
    ],
)
def test_what_llvm_does_not_know_is_refused(
    text: str, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(TargetError, match=f"^target '{text}': ".replace("+", r"\+") + message):
        find(text)
    assert capfd.readouterr() == ("", "")  # LLVM would log what it does not know


def test_targets_that_are_spelled_out() -> None:
    found = find(f"{ARM},cortex-a55")
    assert (found.name, found.registers) == (f"{ARM},cortex-a55", 32)
    assert "dotprod" in found.features
    assert find(f"{X86},znver4").registers == 32
    assert find(f"{X86},znver2").registers == find(f"{ARM32},cortex-a9").registers == 16


def test_32_bits_have_neon_but_no_dot_products_of_64() -> None:
    assert "dotprod" in parse(f"{ARM32},cortex-a55").features()
    assert find(f"{ARM32},cortex-a55").features == {"fp-armv8", "neon"}
    assert find("armv7").features == {"neon"}


def test_processors_that_emulate_what_is_spelled_out() -> None:
    assert processor(find(f"{ARM},cortex-a78")) == "cortex-a76"
    assert processor(find(f"{ARM},cortex-a53,+dotprod")) == "max"
    assert processor(find(f"{ARM},neoverse-v1")) == "max"
    assert processor(find(f"{ARM32},cortex-a53")) == "max"


@pytest.mark.skipif(not find(f"{X86},x86-64-v2").runs_here(), reason="needs an x86 processor")
def test_a_target_that_is_spelled_out_runs(tmp_path: Path) -> None:
    graph = random_graph(39, exact=True)
    network = Network(tmp_path, build(graph, find(f"{X86},x86-64-v2"), tmp_path).program)
    inputs = random_input(graph, 0)
    (output,) = graph.outputs
    np.testing.assert_array_equal(network.run(inputs["x"]), reference.run(graph, inputs)[output])
