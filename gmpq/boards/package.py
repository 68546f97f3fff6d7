"""What a board needs: a folder to copy to it, or an emulator that stands in for it."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from gmpq.artifact.staging import staged
from gmpq.backends.rpc.server.build import SERVER, build, cached
from gmpq.backends.rpc.server.tvm_libraries import versions
from gmpq.backends.tvm import target as targets
from gmpq.backends.tvm.emulation import qemu
from gmpq.errors import BoardError, closest
from gmpq.files import manifest

START, README = "start.sh", "README.md"
EMULATED = "arm64"  # the target whose server is emulated
QEMU = "qemu-aarch64"
LIBSTDCXX = "libstdc++.so.6"  # of TVM's libraries

TEXT = """\
# A board server of gmpq, for {target}

Copy this folder to the board; it needs Linux with glibc 2.28 or newer and libstdc++. On the board:

    ./start.sh --key {target} --tracker TRACKER:9190 --host ADDRESS --allow-from CLIENT

`ADDRESS` is the board's own, `CLIENT` the address of the machine that measures; more of them with
commas between. Whoever may connect may run any code as the user who runs this: never open it to a
network that others use, and do not run it as root.

For steady times, once per start of the board:

    echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor

`./gmpq-board --help` lists all options. `libtvm_runtime.so` and `libtvm_ffi.so` are those of
{versions} (Apache-2.0).
"""


@dataclass(frozen=True, slots=True)
class Serving:
    """How an emulated board meets its clients."""

    cpu: str  # as qemu names it
    tracker: str
    key: str
    port: int
    limit_s: int


def build_board(target: str, wheels: Path | None, out: Path) -> None:
    """Write the folder ``out`` that is copied to a board of ``target``.

    Raises:
        TargetError: there is no such target.
        BoardError: wheels or a C++ compiler are missing.
        OutputError: ``out`` cannot be written.
    """
    triple = targets.find_cpu(target).triple
    with staged(out) as work:
        build(triple, wheels, work)
        shutil.copy(str(resources.files("gmpq.backends.rpc.server").joinpath(START)), work / START)
        for name in (START, SERVER):
            (work / name).chmod(0o755)
        (work / README).write_text(TEXT.format(target=target, versions=" and ".join(versions())))
        manifest.write(work, {"target": target}, manifest.BOARD)


def emulation(serving: Serving, wheels: Path | None, cache: Path) -> list[str]:
    """Return the command of a server on an emulated processor, built first if it has to be.

    Raises:
        BoardError: the emulator, its libraries, wheels or a C++ compiler are missing.
    """
    target = targets.find_cpu(EMULATED)
    root = qemu.LIBRARIES / target.triple
    if (reason := qemu.missing(target)) is not None:
        raise BoardError(f"cannot emulate {serving.cpu}: {reason}")
    if not (root / "lib" / LIBSTDCXX).exists():
        raise BoardError(f"cannot emulate {serving.cpu}: apt-get install libstdc++6-arm64-cross")
    if serving.cpu not in (known := processors()):
        raise BoardError(
            f"processor {serving.cpu!r} is unknown to {QEMU}{closest(serving.cpu, known)}: "
            f"choose one of {', '.join(known)}"
        )
    folder = cached(target.triple, wheels, cache)
    return [
        *(QEMU, "-cpu", serving.cpu, "-L", str(root)),
        *(str(folder / SERVER), "--emulated", serving.cpu, "--key", serving.key),
        *("--tracker", serving.tracker, "--port", str(serving.port)),
        *("--limit", str(serving.limit_s)),
    ]


def processors() -> tuple[str, ...]:
    """Return the processors that the installed qemu emulates."""
    done = subprocess.run([QEMU, "-cpu", "help"], capture_output=True, text=True, check=False)
    return tuple(line.strip() for line in done.stdout.splitlines() if line.startswith(" "))
