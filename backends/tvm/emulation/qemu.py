"""Running a compiled network for another processor on this machine, under qemu-user.

    target = find("arm64-dotprod")
    program = EmulatedProgram(folder, description, target)
    logits = program.run({"input": image})["logits"]

The very ``model.so`` is loaded by a small C program (``runner.c``). Times mean nothing there.
Needs qemu and the target's C library: apt-get install qemu-user libc6-arm64-cross, for 32 bits
libc6-armhf-cross.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import final

import numpy as np

from gmpq.backends.base import Tensor
from gmpq.backends.tvm.codegen.toolchain import compile_program
from gmpq.backends.tvm.target.cpu import CpuTarget
from gmpq.backends.tvm.target.llvm import ARM, ARM32
from gmpq.errors import TargetError
from gmpq.files import temporary
from gmpq.program import Program

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


@final
@dataclass(frozen=True, slots=True, eq=False)
class EmulatedProgram:
    """A compiled network on an emulated processor."""

    directory: Path
    program: Program
    target: CpuTarget

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs, in order."""
        return tuple(spec.name for spec in self.program.outputs)

    @property
    def emulated(self) -> bool:
        """True."""
        return True

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the outputs by name; what the program leaves unwritten is ``UNWRITTEN``.

        Inputs and outputs are float32 by name, in the program's shapes.

        Raises:
            TargetError: it cannot be emulated here, or the program ends badly.
        """
        with temporary.folder() as folder:
            return self.execute(folder, inputs, steps=WHOLE)

    def trace(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return every stored value by name: codes as uint8, outputs as float32.

        ``inputs`` are float32 by name; all have the program's shapes.

        Raises:
            TargetError: it cannot be emulated here, or the program ends badly.
        """
        with temporary.folder() as folder:
            kept = folder / "trace"
            found = self.execute(folder, inputs, trace=str(kept))
            size = self.program.workspace_bytes
            for number, step in enumerate(self.program.steps):
                memory = np.fromfile(kept, np.uint8, size, offset=number * size)
                for value in step.stored:
                    found[value.name] = value.codes(memory[value.offset :])
        return found

    def time_runs(self, inputs: Mapping[str, Tensor], count: int) -> list[float]:
        """Raise ``TargetError``, for inputs of any shape: an emulator's times are no latencies."""
        raise self._no_latency()

    def time_steps(
        self, inputs: Mapping[str, Tensor], count: int, flush_bytes: int = 0
    ) -> dict[str, list[float]]:
        """Raise ``TargetError``, for inputs of any shape: an emulator's times are no latencies."""
        raise self._no_latency()

    def close(self) -> None:
        """Do nothing: every run is a process."""

    def _no_latency(self) -> TargetError:
        return TargetError(
            f"target {self.target.name} is emulated, which gives no latency: measure on a board"
        )

    def execute(
        self,
        folder: Path,
        inputs: Mapping[str, Tensor],
        *,
        trace: str = "-",
        steps: int | None = None,
        flags: Sequence[str] = (),
    ) -> dict[str, Tensor]:
        """Return the outputs after the first ``steps``, or all, leaving files in ``folder``.

        Inputs and outputs are float32 by name, in the program's shapes. Steps run one by one, but
        for ``WHOLE``.

        The workspace after each step goes to the file ``trace``; ``flags`` are for the emulator.

        Raises:
            TargetError: it cannot be emulated here, or the program ends badly.
        """
        target, runner = self.target, folder / "runner"
        count = len(self.program.steps) if steps is None else steps
        emulated = command(target, runner, flags)
        runner.write_bytes(_runner(target))
        runner.chmod(0o700)
        for number, spec in enumerate(self.program.inputs):
            inputs[spec.name].tofile(folder / f"in{number}")
        arguments = self._arguments(folder, len(inputs), count, trace)
        done = subprocess.run([*emulated, *arguments], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise TargetError(f"target {target.name} on {processor(target)}: {_reason(done)}")
        return {
            spec.name: np.fromfile(folder / f"out{number}", np.float32).reshape(spec.shape)
            for number, spec in enumerate(self.program.outputs)
        }

    def _arguments(self, folder: Path, inputs: int, steps: int, trace: str) -> list[str]:
        """Return the arguments of ``runner.c``."""
        sizes = [4 * spec.elements for spec in self.program.outputs]
        return [
            *(str(self.directory / "model.so"), self.program.prefix),
            str(self.directory / "params.bin"),
            *(str(self.program.workspace_bytes), str(steps), trace),
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


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """Return why the emulated program ended."""
    if done.returncode < 0:
        return signal.Signals(-done.returncode).name
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
