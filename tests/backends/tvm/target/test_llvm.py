from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import tvm
from tvm.script.ir_builder import tirx
from tvm.target import codegen

from gmpq.backends import reference
from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.codegen.cpu import compile_module
from gmpq.backends.tvm.emulation.qemu import processor
from gmpq.backends.tvm.kernels.cpu.isa.builder import Expr, c_function, view
from gmpq.backends.tvm.target import Target, find
from gmpq.backends.tvm.target.llvm import TRIPLES, Processor, parse
from gmpq.errors import TargetError
from gmpq.runtime import Network
from tests.support.strategies import random_graph, random_input

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
        (f"{ARM32},cortex-a7,+mve.fp", "no Armv7-A processor has 'mve': leave it out"),
        (f"{ARM32},cortex-a7,+noarm", "no Armv7-A processor has 'noarm': leave it out"),
        (f"{X86},i386", "i386 runs no code of 64 bits: choose a newer one"),
        (f"{X86},pentium4", "pentium4 runs no code of 64 bits: choose a newer one"),
    ],
)
def test_what_llvm_does_not_know_is_refused(
    text: str, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(TargetError, match=f"^target '{text}': ".replace("+", r"\+") + message):
        find(text)
    assert capfd.readouterr() == ("", "")  # LLVM would log what it does not know


def function() -> tvm.IRModule:
    """Return a function of vectors, which LLVM compiles in no time."""

    def body(pointer: Expr) -> None:
        memory = view(pointer, "float32", 16)
        with tirx.vectorized(16) as lane:
            tirx.buffer_store(memory, memory[lane] + memory[lane], [lane])

    made = c_function((("place", "float32"),), body)
    return tvm.IRModule({"double": made.with_attr("global_symbol", "double")})


def processors(triple: str) -> list[str]:
    anything = tvm.target.Target({"kind": "llvm", "mtriple": triple})
    return [str(cpu) for cpu in codegen.llvm_get_cpu_archlist(anything)]


def accepted(triple: str) -> list[Target]:
    """Return the targets of all processors of a triple that are not refused."""
    found = []
    for cpu in processors(triple):
        with suppress(TargetError):
            found.append(find(f"{triple},{cpu}"))
    return found


def test_processors_that_cannot_run_a_program_are_refused() -> None:
    found = {target.cpu for triple in TRIPLES for target in accepted(triple)}
    assert not {"i386", "i686", "pentium4", "geode", "cortex-m55", "arm926ej-s"} & found
    assert {"x86-64", "bdver1", "cortex-a53", "cortex-a7"} <= found
    assert len(accepted(ARM)) == len(processors(ARM))


@pytest.mark.parametrize("triple", TRIPLES)
def test_llvm_compiles_for_every_processor_that_is_not_refused(triple: str, tmp_path: Path) -> None:
    for target in accepted(triple)[::12]:  # all of them take half a minute
        compile_module(function(), target, tmp_path)  # LLVM ends the process if it cannot


def test_targets_that_are_spelled_out() -> None:
    found = find(f"{ARM},cortex-a55")
    assert (found.name, found.vector_registers) == (f"{ARM},cortex-a55", 32)
    assert "dotprod" in found.features
    assert find(f"{X86},znver4").vector_registers == 32
    assert (
        find(f"{X86},znver2").vector_registers == find(f"{ARM32},cortex-a9").vector_registers == 16
    )


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
