"""Predictions for boards: what is counted in assembler text, and what LLVM's model says of it."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import click
import pytest

from gmpq.backends.tvm.emulation.instruction_counts import Block, instructions
from gmpq.backends.tvm.emulation.qemu import missing
from gmpq.backends.tvm.target import find
from predicted import layers, loops, mca, tiles

llvm = pytest.mark.skipif(
    shutil.which("llvm-mca-19") is None, reason="llvm-mca is missing: apt-get install llvm-19"
)
LOOP = """\
kernel:
        LDR q0, [x0], #16
0:
        ldr q1, [x1], #16   // weights
        SMULL v2.8h, v1.8b, v0.8b
        smlal2 v2.8h, v1.16b, v0.16b
        sadalp v16.4s, v2.8h
        subs x2, x2, #1
        B.HI 0b
        b.ne kernel
"""


def test_macs_are_counted_by_the_type_that_is_written() -> None:
    assert mca.macs(["\tsdot v0.4s, v1.16b, v2.4b[1]", "\tusmmla v0.4s, v1.16b, v2.16b"]) == 48
    assert mca.macs(["\tsmull v2.8h, v1.8b, v0.8b", "\tmla v3.16b, v1.16b, v0.16b"]) == 24
    assert mca.macs(["\tsadalp v16.4s, v2.8h", "\tldr q0, [x0]"]) == 0


@llvm
def test_the_hot_loop_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "kernel.S"
    path.write_text(LOOP)
    name, cpu, found = loops.row(path, "cortex-a72")
    assert (name, cpu) == ("kernel", "cortex-a72")
    assert 1 < float(found) <= 8  # its one sum waits for itself


def test_a_file_without_a_loop_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "kernel.S"
    path.write_text(LOOP.replace("B.HI 0b", "").replace("b.ne kernel", ""))
    with pytest.raises(click.UsageError, match="no loop that multiplies"):
        loops.row(path, "cortex-a72")
    with pytest.raises(click.UsageError, match=r"none\.S: cannot be read"):
        loops.row(tmp_path / "none.S", "cortex-a72")


@llvm
def test_cycles_of_blocks_and_unknown_processors() -> None:
    block = Block(bytes.fromhex("2084224e"), 1)  # add v0.16b, v1.16b, v2.16b
    blocks = Counter({block: 10})
    assert instructions(blocks) == 10
    assert 0 < mca.cycles(blocks, "cortex-a72") < 50
    with pytest.raises(click.ClickException, match="no model of cortex-a999"):
        mca.cycles(blocks, "cortex-a999")


@llvm
@pytest.mark.arm
@pytest.mark.skipif(missing(find("arm64")) is not None, reason=str(missing(find("arm64"))))
def test_fewer_bits_take_fewer_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "LAYER", layers.Layer(7, 32, 16, 3, 1, 1))
    every = (layers.W8A8, layers.W4A4, layers.W2A2)
    cases = (layers.Case("cortex-a72", "rpi4", "direct_neon", bits, 8) for bits in every)
    eight, four, two = (layers.row(case) for case in cases)
    assert float(eight[-1]) > float(four[-1]) > float(two[-1])
    assert all(float(row[3]) <= 8.05 for row in (eight, four, two))


def test_the_share_of_a_tile_that_the_layer_needs() -> None:
    site = tiles.site_of(layers.Layer(7, 32, 16, 3, 1, 1), 8, find("rpi4"))
    assert tiles.needed("1x7 pixels x 2 vectors, rows outside", site) == 1
    assert tiles.needed("2x4 pixels x 3 vectors, runs of 1 in int16", site) == 7 / 8 * 7 / 8 * 4 / 6


@llvm
def test_tiles_are_ranked_by_their_loops() -> None:
    small = layers.Layer(4, 64, 16, 3, 1, 1)
    cases = {case.processor: case for case in tiles.CASES if case.family != "direct_mmla"}
    for processor, limit in (("cortex-a53", 8.0), ("cortex-a72", 8.0), ("neoverse-n1", 32.0)):
        *_, count, _, picked, stores, _, best, ratio = tiles.row(cases[processor], small, 8)
        assert int(count) > 5
        assert 0 < float(picked) <= float(best) <= limit
        assert (stores, float(ratio) > 0.9) == ("0", True)
