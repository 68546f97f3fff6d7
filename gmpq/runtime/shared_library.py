"""A shared library's own copy in this process, and whether this processor can run it.

The dynamic linker loads each file once, and knows it by its path and its inode: a program compiled
again into the same directory would stay the old one, and two networks of one directory would share
their threads. So the linker gets a copy in memory, or where the kernel has no ``memfd_create``, a
temporary file.
"""

from __future__ import annotations

import _ctypes
import ctypes
import os
import struct
import tempfile
import weakref
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from gmpq.errors import OutputError

# System V ABI, "ELF Header": the class at byte 4, the machine at byte 18; and by the class the
# place, the size and the number of section headers, which linkers write at the end of a file
SECTIONS = {1: (("<I", 32), ("<H", 46), ("<H", 48)), 2: (("<Q", 40), ("<H", 58), ("<H", 60))}
MACHINES = {3: "i386", 40: "arm", 62: "x86-64", 183: "aarch64", 243: "riscv"}
KEYS = {"x86-64": "flags", "i386": "flags", "aarch64": "Features", "arm": "Features"}
MOST_NAME = 249  # bytes (memfd_create(2))
ELF, HEADER_BYTES = b"\x7fELF", 64
EXECUTABLE, CPUINFO = Path("/proc/self/exe"), Path("/proc/cpuinfo")
# LLVM's features, and what the kernel of Linux calls them on processors of 64 and of 32 bits
FEATURES = {
    **{name: (name,) for name in ("sse2", "ssse3", "avx", "avx2", "fma", "f16c", "bmi2", "movbe")},
    **{name: (name,) for name in ("popcnt", "avx512f", "avx512bw", "avx512cd", "avx512dq")},
    **{name: (name,) for name in ("avx512vl", "avx512vbmi", "fma4", "xop", "i8mm")},
    "sse4.1": ("sse4_1",),
    "bmi": ("bmi1",),
    "lzcnt": ("abm",),
    "avxvnni": ("avx_vnni",),
    "avx512vnni": ("avx512_vnni",),
    "avx512bitalg": ("avx512_bitalg",),
    "avx512vpopcntdq": ("avx512_vpopcntdq",),
    "amx-tile": ("amx_tile",),
    "amx-int8": ("amx_int8",),
    "fp-armv8": ("fp",),
    "neon": ("asimd", "neon"),
    "dotprod": ("asimddp",),
}


class SharedLibrary:
    """The functions of a shared library, which is unloaded when nothing refers to this object."""

    def __init__(self, content: bytes, path: Path) -> None:
        """Load a copy of ``content``, which profilers show as that of ``path``.

        Raises:
            OSError: the dynamic linker refuses it.
        """
        self.functions, descriptor = _load(content, path)
        unload = weakref.finalize(self, _unload, self.functions._handle, descriptor)
        unload.atexit = False  # threads may run its code until the process ends


def _load(content: bytes, path: Path) -> tuple[ctypes.CDLL, int | None]:
    """Return a library, and the descriptor that has to stay open as long as it is loaded."""
    with suppress(AttributeError, OSError):  # an old kernel or C library, or one that forbids it
        return _from_memory(content, path)
    with tempfile.NamedTemporaryFile(suffix=".so") as file:
        file.write(content)
        file.flush()
        return ctypes.CDLL(file.name), None


def _from_memory(content: bytes, path: Path) -> tuple[ctypes.CDLL, int]:
    descriptor = os.memfd_create(name_in_memory(path))
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        return ctypes.CDLL(f"/proc/self/fd/{descriptor}"), descriptor
    except OSError:
        os.close(descriptor)
        raise


def name_in_memory(path: Path) -> str:
    """Return what ``/proc/self/maps`` calls a copy of ``path``, behind ``/memfd:``."""
    return os.fsdecode(os.fsencode(path.resolve())[-MOST_NAME:])


def _unload(handle: int, descriptor: int | None) -> None:
    """End the library's threads and free it; the next library may then take its path."""
    _ctypes.dlclose(handle)
    if descriptor is not None:
        os.close(descriptor)


def check_runs_here(path: Path, content: bytes, features: Collection[str]) -> None:
    """Pass the ``content`` of the library ``path`` if this process can run its instructions.

    Raises:
        OutputError: It is for another architecture, or needs other ``features`` too.
    """
    machine, own = _machine(content), _machine(_own_header())
    if machine is None:
        raise OutputError(f"{path}: is no shared library: compile again")
    if own is not None and machine != own:
        raise OutputError(f"{path}: is for {machine}, this is {own}: compile with --target native")
    if _is_short(content):
        raise OutputError(f"{path}: is cut short: compile again")
    has = _flags(KEYS.get(machine, ""))
    lacking = [
        name
        for name in sorted(features)
        if has and name in FEATURES and has.isdisjoint(FEATURES[name])
    ]
    if lacking:
        raise OutputError(
            f"{path}: needs {', '.join(lacking)}, which this processor lacks: "
            "compile with --target native"
        )


def _own_header() -> bytes:
    with suppress(OSError), EXECUTABLE.open("rb") as file:
        return file.read(HEADER_BYTES)
    return b""


def _machine(header: bytes) -> str | None:
    """Return the architecture of an ELF file."""
    if len(header) < HEADER_BYTES or not header.startswith(ELF):
        return None
    (number,) = struct.unpack_from("<H", header, 18)
    return MACHINES.get(number, f"machine {number}")


def _is_short(content: bytes) -> bool:
    """Return whether an ELF file ends early: what is missing would be read, and end the process."""
    fields = SECTIONS.get(content[4], SECTIONS[2])
    place, size, count = (struct.unpack_from(kind, content, at)[0] for kind, at in fields)
    return bool(place + size * count > len(content))


def _flags(key: str) -> frozenset[str]:
    """Return the kernel's names of what the processor has; none where it says nothing."""
    with suppress(OSError), CPUINFO.open() as file:
        for line in file:
            name, _, value = line.partition(":")
            if name.strip() == key:
                return frozenset(value.split())
    return frozenset()
