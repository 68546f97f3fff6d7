"""Cycles that LLVM's model of a processor predicts for blocks of instructions.

The model (llvm-mca) knows ports and latencies, no caches and no branches: loads hit, and a block
repeats as if it were a loop. Needs llvm-mc and llvm-mca: apt-get install llvm-19.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Mapping

import click

from gmpq.backends.tvm.emulation.instruction_counts import Block, instructions

VERSION = "19"
TRIPLE = "aarch64-linux-gnu"
FEATURES = "+dotprod,+i8mm,+fullfp16"
ENOUGH = 0.98  # of all instructions: the rest takes an instruction a cycle
REPEATS = 30
MATRIX = {"4s": 32}
DOT, LONG, SAME = {"4s": 16}, {"8h": 8, "4s": 4}, {"16b": 16, "8h": 8, "4s": 4}
PRODUCTS = {  # of an instruction, by the type that it writes
    **dict.fromkeys(("smmla", "usmmla"), MATRIX),
    **dict.fromkeys(("sdot", "udot", "usdot", "sudot"), DOT),
    **dict.fromkeys(("smull", "smull2", "smlal", "smlal2"), LONG),
    **dict.fromkeys(("mul", "mla"), SAME),
    "cnt": {"16b": 128},  # of one bit each
}
NAME = re.compile(r"\s*(\w+)\s+v\d+\.(\w+)")


def assembly(block: Block) -> list[str]:
    """Return the instructions of a block as text."""
    code = " ".join(f"0x{byte:02x}" for byte in block.code)
    text = _run("llvm-mc", f"-triple={TRIPLE}", "-disassemble", f"-mattr={FEATURES}", text=code)
    return [line for line in text.splitlines() if line.strip() and line.strip()[0] != "."]


def block_cycles(lines: list[str], cpu: str) -> float:
    """Return the cycles of one repetition of some instructions.

    Raises:
        click.ClickException: LLVM is not installed, or has no model of ``cpu``.
    """
    flags = (f"-mcpu={cpu}", f"-mattr={FEATURES}", f"-iterations={REPEATS}")
    quiet = ("-instruction-info=0", "-resource-pressure=0")
    found = _run("llvm-mca", f"-mtriple={TRIPLE}", *flags, *quiet, text="\n".join(lines))
    total = re.search(r"Total Cycles:\s+(\d+)", found)
    if total is None:
        raise click.ClickException(f"llvm-mca has no model of {cpu}")
    return int(total[1]) / REPEATS


def cycles(blocks: Counter[Block], cpu: str) -> float:
    """Return the predicted cycles of all blocks."""
    every, seen, found = instructions(blocks), 0, 0.0
    for block, runs in sorted(blocks.items(), key=lambda pair: -pair[0].instructions * pair[1]):
        if seen >= ENOUGH * every:
            break
        seen += block.instructions * runs
        found += runs * block_cycles(assembly(block), cpu)
    return found + every - seen


def hot_loop(blocks: Counter[Block], cpu: str) -> float:
    """Return the predicted multiplications a cycle of the loop that multiplies most."""
    work = {block: macs(assembly(block)) for block in _largest(blocks)}
    hottest = max(work, key=lambda block: work[block] * blocks[block])
    loop = [block for block in work if blocks[block] == blocks[hottest]]
    total = sum(work[block] for block in loop)
    return total / sum(block_cycles(assembly(block), cpu) for block in loop)


def _largest(blocks: Mapping[Block, int], most: int = 12) -> list[Block]:
    return sorted(blocks, key=lambda block: -block.instructions * blocks[block])[:most]


def macs(lines: list[str]) -> int:
    """Return the multiplications of instructions on vectors."""
    names = (NAME.match(line.lower()) for line in lines)
    return sum(PRODUCTS.get(name[1], {}).get(name[2], 0) for name in names if name)


def _run(tool: str, *flags: str, text: str) -> str:
    command = [f"{tool}-{VERSION}", *flags]
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise click.ClickException(f"{command[0]}: apt-get install llvm-{VERSION}") from error
    return done.stdout
