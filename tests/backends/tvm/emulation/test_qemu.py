"""Programs for ARM, on emulated processors, equal the reference; the ways to fail are told."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from gmpq.backends import reference
from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.codegen.form import Form
from gmpq.backends.tvm.emulation import qemu
from gmpq.backends.tvm.emulation.qemu import EMULATORS, EmulatedProgram, missing, processor
from gmpq.backends.tvm.kernels.cpu.isa.dot import Int32Dot, Sdot, best_dot
from gmpq.backends.tvm.target import Target, find
from gmpq.backends.tvm.target.cpu import INSTRUCTION_SETS
from gmpq.backends.tvm.target.llvm import Processor as LlvmProcessor
from gmpq.errors import TargetError
from gmpq.ir import IntGraph
from gmpq.program import Program
from gmpq.runtime import UNWRITTEN
from tests.support.single_layers import V3, random_convolution, random_linear
from tests.support.strategies import random_graph

REASON = missing(find("arm64"))
pytestmark = pytest.mark.arm
emulated = pytest.mark.skipif(REASON is not None, reason=str(REASON))
TARGETS = ("arm64", "arm64-dotprod", "arm64-i8mm", "armv7")
BITS = ((8, 8), (7, 8), (4, 4), (2, 1), (8, 3), (5, 6))  # of codes and weights


def check(graph: IntGraph, target: Target, folder: Path, seed: int) -> None:
    program = build(graph, target, folder, form=Form(prefix="lite0")).program
    compiled = EmulatedProgram(folder, program, target)
    rng = np.random.default_rng(seed)
    inputs = {
        name: rng.normal(0, 60, graph.values[name].shape).astype(np.float32)
        for name in graph.inputs
    }
    expected = reference.run(graph, inputs)
    found = compiled.trace(inputs)
    assert {node.output for node in graph.nodes} >= set(found) > set(graph.outputs)
    for name, values in found.items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)
    outputs = compiled.run(inputs)
    assert tuple(outputs) == compiled.outputs == graph.outputs
    for name, output in outputs.items():
        np.testing.assert_array_equal(output, expected[name])


@emulated
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("seed", range(12))
def test_convolutions_equal_the_reference(seed: int, target: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    check(random_convolution(rng, BITS[seed % len(BITS)]), find(target), tmp_path, seed)


@emulated
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("seed", range(3))
def test_other_layers_equal_the_reference(seed: int, target: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    check(random_linear(rng, BITS[seed]), find(target), tmp_path, seed)
    (tmp_path / "graph").mkdir()
    check(random_graph(seed), find(target), tmp_path / "graph", seed)


def test_targets_choose_their_instruction() -> None:
    weights = np.ones((1, 1), np.int8)
    assert isinstance(best_dot(find("rpi4"), 255, weights), Int32Dot)
    assert best_dot(find("rpi5"), 255, weights) == Sdot(shift=128)
    assert best_dot(find("jetson-orin-cpu"), 127, weights) == Sdot()
    assert best_dot(find("arm64-i8mm"), 255, weights) == Sdot(unsigned=True)


def test_processors_have_the_instructions() -> None:
    found = [processor(find(name)) for name in TARGETS]
    assert found == ["cortex-a53", "cortex-a76", "max", "cortex-a7"]


PAIRS = [
    pytest.param(triple, cpu, emulating, id=cpu)
    for triple, emulator in EMULATORS.items()
    for cpu, emulating in emulator.processors.items()
]


@pytest.mark.parametrize(("triple", "cpu", "emulating"), PAIRS)
def test_an_emulated_processor_has_no_instructions_beyond(
    triple: str, cpu: str, emulating: str
) -> None:
    found = (LlvmProcessor(triple, each).features() for each in (cpu, emulating))
    meant, emulated_features = (INSTRUCTION_SETS & features for features in found)
    assert emulated_features == meant


@emulated
@pytest.mark.parametrize(("triple", "cpu", "emulating"), PAIRS)
def test_qemu_knows_the_processor(triple: str, cpu: str, emulating: str) -> None:
    words = (EMULATORS[triple].command, "-cpu", "help")  # some versions end with exit code 1
    listed = subprocess.run(words, capture_output=True, text=True, check=False).stdout
    assert emulating in listed.split(), cpu


@emulated
def test_an_instruction_that_the_processor_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = find("arm64-dotprod")
    graph = random_convolution(np.random.default_rng(0), (8, 8))
    compiled = EmulatedProgram(tmp_path, build(graph, target, tmp_path).program, target)
    monkeypatch.setattr(qemu, "processor", lambda _: "cortex-a72")
    image = np.zeros(graph.values["image"].shape, np.float32)
    with pytest.raises(TargetError, match="arm64-dotprod on cortex-a72: SIGILL"):
        compiled.run({"image": image})


@emulated
def test_what_is_not_written_is_seen(tmp_path: Path) -> None:
    target = find("arm64")
    graph = random_convolution(np.random.default_rng(0), (8, 8))
    compiled = EmulatedProgram(tmp_path, build(graph, target, tmp_path).program, target)
    image = np.zeros(graph.values["image"].shape, np.float32)
    (nothing,) = compiled.execute(tmp_path, {"image": image}, steps=0).values()
    assert (nothing.view(np.uint32) == UNWRITTEN).all()
    ((name, found),) = compiled.run({"image": image}).items()
    assert name == graph.outputs[0]
    np.testing.assert_array_equal(found, reference.run(graph, {"image": image})[name])


@emulated
def test_a_library_that_is_damaged(tmp_path: Path) -> None:
    target = find("arm64")
    graph = random_convolution(np.random.default_rng(0), (8, 8))
    compiled = EmulatedProgram(tmp_path, build(graph, target, tmp_path).program, target)
    (tmp_path / "model.so").write_bytes(b"torn")
    with pytest.raises(TargetError, match=r"arm64 on cortex-a53: .*model.so"):
        compiled.run({"image": np.zeros(graph.values["image"].shape, np.float32)})


def test_what_is_missing_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert missing(V3) == "nothing emulates x86_64-linux-gnu here"
    monkeypatch.setattr(qemu.shutil, "which", lambda _: None)
    assert missing(find("rpi5")) == "to emulate rpi5: apt-get install qemu-user"
    with pytest.raises(TargetError, match="rpi5 does not run on this machine: to emulate"):
        EmulatedProgram(tmp_path, Program("rpi5", 0, 0, (), (), ()), find("rpi5")).run({})
    monkeypatch.setattr(qemu.shutil, "which", lambda _: "/usr/bin/qemu-aarch64")
    monkeypatch.setattr(qemu, "LIBRARIES", tmp_path)
    assert missing(find("rpi5")) == "to emulate rpi5: apt-get install libc6-arm64-cross"
