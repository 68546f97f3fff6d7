"""Opening a compiled network wherever its target runs: in this process, or under an emulator."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, assert_never

from gmpq.backends.tvm.emulation import qemu
from gmpq.backends.tvm.emulation.cuda import library as cuda
from gmpq.backends.tvm.emulation.cuda.program import CudaProgram, starts_here
from gmpq.backends.tvm.emulation.qemu import EmulatedProgram
from gmpq.backends.tvm.host import HostProgram
from gmpq.backends.tvm.target import CpuTarget, GpuTarget, Target
from gmpq.program import Program
from gmpq.runtime.cuda import NoDeviceError

CompiledProgram: TypeAlias = HostProgram | EmulatedProgram | CudaProgram


@dataclass(frozen=True, slots=True)
class Unavailable:
    """A program that does not run on this machine; ``reason`` says what is missing."""

    reason: str


def open_compiled(
    directory: Path, program: Program, target: Target
) -> CompiledProgram | Unavailable:
    """Return the ``program`` in ``directory``, which was compiled for ``target``.

    Raises:
        OutputError: a file is missing, damaged, or not for this machine.
    """
    match target:
        case CpuTarget() if target.runs_here():
            return HostProgram.open(directory, program)
        case CpuTarget():
            reason = qemu.missing(target)
            return Unavailable(reason) if reason else EmulatedProgram(directory, program, target)
        case GpuTarget():
            if starts_here(target):
                with suppress(NoDeviceError):
                    return CudaProgram.open(directory, program)
            reason = cuda.missing()
            if reason:
                return Unavailable(reason)
            return CudaProgram.emulate(directory, program, target)
        case _:
            assert_never(target)
