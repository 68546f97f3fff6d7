"""How many instructions a compiled network takes, counted by the emulator: no latency, but exact.

A run of no step, or of those before, which loads the program and its parameters, is counted too and
taken away.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from gmpq.backends.base import Tensor
from gmpq.backends.tvm.codegen.toolchain import compile_plugin
from gmpq.backends.tvm.emulation.qemu import EmulatedProgram
from gmpq.backends.tvm.target.cpu import native
from gmpq.files import temporary


@dataclass(frozen=True, slots=True)
class Block:
    """Instructions that run one after the other, in the bytes of the processor."""

    code: bytes
    instructions: int


def counted(
    program: EmulatedProgram,
    inputs: Mapping[str, Tensor],
    steps: tuple[int, int | None] = (0, None),
) -> Counter[Block]:
    """Return how often every block of instructions runs for one inference of ``inputs``.

    ``inputs`` are float32 by name, in the program's shapes. Counted are the steps from the first of
    ``steps`` to before the last one, or to the end.

    Raises:
        TargetError: it cannot be emulated here, or the program ends badly.
    """
    with temporary.folder() as folder:
        plugin = folder / "counter.so"
        source = resources.files("gmpq.backends.tvm.emulation").joinpath("counter.c")
        compile_plugin(Path(str(source)), native(), plugin)
        paths = (str(path).replace(",", ",,") for path in (plugin, folder / "blocks"))  # for qemu
        flags = ("-plugin", ",out=".join(paths))
        found = []
        for last in steps:
            program.execute(folder, inputs, steps=last, flags=flags)
            found.append(_read(folder / "blocks"))
        before, every = found
        every.subtract(before)
        return +every


def instructions(blocks: Counter[Block]) -> int:
    """Return the instructions of all blocks together."""
    return sum(block.instructions * runs for block, runs in blocks.items())


def _read(path: Path) -> Counter[Block]:
    blocks: Counter[Block] = Counter()
    for line in path.read_text().splitlines():
        instructions_, runs, code = line.split()
        blocks[Block(bytes.fromhex(code), int(instructions_))] += int(runs)
    return blocks
