"""Building the server for a machine, and finding the one that was built before."""

from __future__ import annotations

import hashlib
import importlib.util
import platform
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path

from gmpq.backends.rpc.server import tvm_libraries
from gmpq.errors import BoardError, install_extra
from gmpq.files import temporary

SERVER = "gmpq-board"
MACHINES = ("aarch64", "x86_64")
OLDEST_GLIBC = "2.28"  # Debian 10, Raspberry Pi OS 10 and newer
FLAGS = ("-std=c++17", "-O2", "-Wl,-rpath,$ORIGIN", "-Wl,--no-as-needed", "-Wl,-s")
LINKED = ("-ltvm_runtime", "-ltvm_ffi", "-ldl")


def build(triple: str, wheels: Path | None, folder: Path) -> None:
    """Write the server for ``triple`` and the libraries that it needs into ``folder``.

    Args:
        triple: as LLVM names machines, "aarch64-linux-gnu".
        wheels: where wheels for another machine lie; without it pip fetches them.
        folder: exists.

    Raises:
        BoardError: wheels or a C++ compiler are missing, or it cannot compile.
    """
    machine = triple.split("-", maxsplit=1)[0]
    if machine not in MACHINES:
        raise BoardError(
            f"no {SERVER} for {machine}: TVM has wheels for {' and '.join(MACHINES)} alone"
        )
    compiler = _compiler(triple)
    if wheels is not None:
        tvm_libraries.unpack(wheels, machine, folder)
    elif machine == platform.machine():
        tvm_libraries.copy_installed(folder)
    else:
        tvm_libraries.fetch(machine, folder)
    _compile(compiler, folder)


def cached(triple: str, wheels: Path | None, cache: Path) -> Path:
    """Return a folder in ``cache`` with the server for ``triple``, built once per version.

    Raises:
        BoardError: it has to be built, and cannot be.
    """
    place = place_in(cache, triple)
    if place.exists():
        return place
    cache.mkdir(parents=True, exist_ok=True)
    with temporary.folder(cache, "board") as work:
        build(triple, wheels, work)
        try:
            work.rename(place)
        except OSError:
            if not place.exists():  # another process was not faster
                raise
    return place


def place_in(cache: Path, triple: str) -> Path:
    """Return where ``cache`` has the server for ``triple`` of this version, once it is built."""
    return cache / f"board-{triple}-{_digest()}"


def _digest() -> str:
    """Return a short digest of all that the server is built from."""
    digest = hashlib.sha256("".join(tvm_libraries.versions()).encode())
    for path in _sources("*.cc") + _sources("*.h"):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _sources(pattern: str) -> list[Path]:
    return sorted(Path(str(resources.files("gmpq.backends.rpc.server"))).glob(pattern))


def _compile(compiler: tuple[str, ...], folder: Path) -> None:
    include = tvm_libraries.installed("tvm_ffi") / "include"
    command = [
        *(*compiler, *FLAGS, f"-I{include}", f"-L{folder}"),
        *(str(path) for path in _sources("*.cc")),
        *(*LINKED, "-o", str(folder / SERVER)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no message"]
        first = next((line for line in lines if "error" in line), lines[0])
        raise BoardError(f"{SERVER}: {' '.join(compiler)} cannot build it: {first}")


def _compiler(triple: str) -> tuple[str, ...]:
    """Return the command of a C++ compiler for ``triple``."""
    if triple.startswith(f"{platform.machine()}-") and shutil.which("c++"):
        return ("c++",)
    if importlib.util.find_spec("ziglang") is not None:
        return (sys.executable, "-m", "ziglang", "c++", "-target", f"{triple}.{OLDEST_GLIBC}")
    if shutil.which(f"{triple}-g++"):
        return (f"{triple}-g++",)
    raise BoardError(
        f"{SERVER}: no C++ compiler for {triple}: install g++-{triple.replace('_', '-')}, "
        f"or {install_extra('cross')}"
    )
