"""Running a compiled network for another processor on this machine, under qemu-user.

    target = find("arm64-dotprod")
    network = Emulated(folder, program, target)
    logits = network.run(image)

The very ``model.so`` is loaded by a small C program (``runner.c``). Times mean nothing there.
Needs qemu and the target's C library: apt-get install qemu-user libc6-arm64-cross, for 32 bits
libc6-armhf-cross.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gmpq.backends.tvm.codegen.toolchain import compile_program
from gmpq.backends.tvm.target.cpu import CpuTarget
from gmpq.backends.tvm.target.llvm import ARM, ARM32
from gmpq.errors import TargetError
from gmpq.files import temporary
from gmpq.program import PREFIX
from gmpq.runtime import codes_of

Tensor: TypeAlias = NDArray[Any]
Floats: TypeAlias = NDArray[np.float32]

LIBRARIES = Path("/usr")  # holds a folder per triple
WHOLE = -1  # all steps in one call of gmpq_run
NEWEST = "max"  # qemu's name of a processor that has all that qemu knows


@dataclass(frozen=True, slots=True)
class Emulator:
    """What emulates an architecture, and the package of its C library."""

    command: str
    package: str
    processors: Mapping[str, str]  # by the cpu of a target: the oldest that has its instructions


EMULATORS = {
    ARM: Emulator(
        "qemu-aarch64",
        "libc6-arm64-cross",
        {
            "cortex-a53": "cortex-a53",
            "cortex-a55": "cortex-a76",
            "cortex-a72": "cortex-a53",
            "cortex-a76": "cortex-a76",
            "cortex-a78": "cortex-a76",
        },
    ),
    ARM32: Emulator("qemu-arm", "libc6-armhf-cross", {"cortex-a7": "cortex-a7"}),
}


def missing(target: CpuTarget) -> str | None:
    """Return what has to be installed before programs of ``target`` can be emulated."""
    emulator = EMULATORS.get(target.triple)
    if emulator is None:
        return f"nothing emulates {target.triple} here"
    if shutil.which(emulator.command) is None:
        return f"to emulate {target.name}: apt-get install qemu-user"
    if not (LIBRARIES / target.triple / "lib").exists():
        return f"to emulate {target.name}: apt-get install {emulator.package}"
    return None


def processor(target: CpuTarget) -> str:
    """Return the oldest processor of qemu's that has the instructions of ``target``."""
    if target.attributes:
        return NEWEST
    return EMULATORS[target.triple].processors.get(target.cpu, NEWEST)


def command(target: CpuTarget, program: Path, flags: Sequence[str] = ()) -> list[str]:
    """Return what runs ``program`` of ``target`` here: to be followed by its arguments.

    ``flags`` are for the emulator.

    Raises:
        TargetError: it cannot be emulated here.
    """
    reason = missing(target)
    if reason is not None:
        raise TargetError(f"target {target.name} does not run on this machine: {reason}")
    libraries = str(LIBRARIES / target.triple)
    qemu = EMULATORS[target.triple].command
    return [qemu, "-cpu", processor(target), *flags, "-L", libraries, str(program)]


@dataclass(frozen=True, slots=True, eq=False)
class Emulated:
    """A compiled network on an emulated processor."""

    directory: Path
    program: Mapping[str, Any]
    processor: CpuTarget

    @property
    def target(self) -> str:
        """The target that the network was compiled for."""
        return self.processor.name

    def run(self, *inputs: Floats) -> tuple[Floats, ...]:
        """Return the outputs for float32 ``inputs``.

        Raises:
            TargetError: it cannot be emulated here, or the program ends badly.
        """
        with temporary.folder() as folder:
            return self.execute(folder, inputs, steps=WHOLE)

    def run_checked(self, *inputs: Floats) -> list[tuple[str, Floats]]:
        """Return the outputs by name as ``gmpq_run`` leaves them in memory of ``UNWRITTEN``.

        Raises:
            TargetError: it cannot be emulated here, or the program ends badly.
        """
        names = (end["name"] for end in self.program["outputs"])
        return list(zip(names, self.run(*inputs), strict=True))

    def trace(self, *inputs: Floats) -> Iterator[tuple[str, Tensor]]:
        """Yield every value by name: codes as uint8, outputs as float32; raises ``TargetError``."""
        with temporary.folder() as folder:
            kept = folder / "trace"
            outputs = self.execute(folder, inputs, trace=str(kept))
            yield from zip((end["name"] for end in self.program["outputs"]), outputs, strict=True)
            size = self.program["workspace_bytes"]
            for number, step in enumerate(self.program["steps"]):
                memory = np.fromfile(kept, np.uint8, size, offset=number * size)
                for value in (each for each in step["outputs"] if "offset" in each):
                    yield value["name"], codes_of(memory, value)

    def execute(
        self,
        folder: Path,
        inputs: Sequence[Floats],
        *,
        trace: str = "-",
        steps: int | None = None,
        flags: Sequence[str] = (),
    ) -> tuple[Floats, ...]:
        """Return the outputs after the first ``steps``, or all, leaving files in ``folder``.

        Steps run one by one, but for ``WHOLE``.

        The workspace after each step goes to the file ``trace``; ``flags`` are for the emulator.

        Raises:
            TargetError: it cannot be emulated here, or the program ends badly.
        """
        target, runner = self.processor, folder / "runner"
        count = len(self.program["steps"]) if steps is None else steps
        emulated = command(target, runner, flags)
        runner.write_bytes(_runner(target))
        runner.chmod(0o700)
        for number, array in enumerate(inputs):
            array.tofile(folder / f"in{number}")
        words = [*emulated, *self._arguments(folder, len(inputs), count, trace)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise TargetError(f"target {target.name} on {processor(target)}: {_told(done)}")
        return tuple(
            np.fromfile(folder / f"out{number}", np.float32).reshape(end["shape"])
            for number, end in enumerate(self.program["outputs"])
        )

    def _arguments(self, folder: Path, inputs: int, steps: int, trace: str) -> list[str]:
        """Return what ``runner.c`` is told."""
        sizes = [4 * int(np.prod(end["shape"])) for end in self.program["outputs"]]
        return [
            *(str(self.directory / "model.so"), self.program.get("prefix", PREFIX)),
            str(self.directory / "params.bin"),
            *(str(self.program["workspace_bytes"]), str(steps), trace),
            *(str(folder / f"in{number}") for number in range(inputs)),
            *("--", *(f"{folder}/out{number}:{size}" for number, size in enumerate(sizes))),
        ]


@lru_cache(maxsize=2)
def _runner(target: CpuTarget) -> bytes:
    """Return the program ``runner.c`` for ``target``."""
    source = resources.files("gmpq.backends.tvm.emulation").joinpath("runner.c")
    with temporary.folder() as folder:
        program = folder / "runner"
        compile_program(Path(str(source)), target, program)
        return program.read_bytes()


def _told(done: subprocess.CompletedProcess[str]) -> str:
    """Return why the emulated program ended."""
    if done.returncode < 0:
        return signal.Signals(-done.returncode).name
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
