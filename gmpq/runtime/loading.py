"""The files of a compiled network, checked and brought into this process."""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gmpq.errors import OutputError
from gmpq.program import Program
from gmpq.runtime.shared_library import SharedLibrary, check_runs_here

Bytes: TypeAlias = NDArray[np.uint8]

LIBRARY, PARAMS = "model.so", "params.bin"
HUGE_PAGE = 2 << 20  # bytes


@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """Memory that a program reads or writes."""

    content: Bytes
    pointer: ctypes.c_void_p

    @classmethod
    def of(cls, size: int) -> Memory:
        """Return ``size`` zeros."""
        content = zeros(size)
        return cls(content, ctypes.c_void_p(content.ctypes.data))


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """The functions of a network, with the library that they belong to, and its parameters."""

    library: SharedLibrary
    run: Any
    run_steps: Any
    set_threads: Any
    params: Memory


def open_program(program: Program, directory: Path, digests: Mapping[str, str]) -> Loaded:
    """Return the ``program`` in ``directory``, brought into this process.

    Args:
        program: What it has to be.
        directory: Holds ``model.so`` and ``params.bin``.
        digests: The SHA-256 of both by name, which are compared where they are given.

    Raises:
        OutputError: A file is missing, damaged, or not for this machine.
    """
    return _loaded(program.prefix, directory / LIBRARY, *files_of(program, directory, digests))


def files_of(program: Program, directory: Path, digests: Mapping[str, str]) -> tuple[bytes, bytes]:
    """Return the library and the parameters of ``program``; arguments and errors as above."""
    library = _content(directory / LIBRARY)
    check_runs_here(directory / LIBRARY, library, program.features)
    content = _content(directory / PARAMS)
    if len(content) != program.params_bytes:
        raise OutputError(
            f"{directory / PARAMS}: has {len(content)} bytes instead of "
            f"{program.params_bytes}: compile again"
        )
    for name, found in ((LIBRARY, library), (PARAMS, content)):
        if name in digests and hashlib.sha256(found).hexdigest() != digests[name]:
            raise OutputError(f"{directory / name}: changed since it was compiled: compile again")
    return library, content


def _loaded(prefix: str, path: Path, library: bytes, content: bytes) -> Loaded:
    try:
        loaded = SharedLibrary(library, path)
        run, run_steps, set_threads = (
            loaded.functions[f"{prefix}_{name}"] for name in ("run", "run_steps", "set_threads")
        )
    except (OSError, AttributeError) as error:
        raise OutputError(f"{path}: cannot be loaded: {error}: compile again") from error
    params = Memory.of(len(content))
    params.content[:] = np.frombuffer(content, np.uint8)
    return Loaded(loaded, run, run_steps, set_threads, params)


def _content(path: Path) -> bytes:
    if not path.is_file():  # a pipe would be waited for
        raise OutputError(f"{path}: missing: compile again")
    try:
        return path.read_bytes()
    except OSError as error:
        raise OutputError(f"{path}: cannot be read: {error.strerror}") from error


def zeros(size: int) -> Bytes:
    """Return zeros, uint8 [size], that start at a cache line, in huge pages if they are many.

    A run reads all weights once: with small pages the processor looks up where each 4 KiB lie.
    """
    whole = (size // HUGE_PAGE + 2) * HUGE_PAGE  # whole pages, wherever the first one begins
    memory = mmap.mmap(-1, whole, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if sys.platform == "linux" and size >= HUGE_PAGE // 2:
        with suppress(OSError):  # a kernel without huge pages
            memory.madvise(mmap.MADV_HUGEPAGE)
    everything = np.frombuffer(memory, np.uint8)
    start = -everything.ctypes.data % HUGE_PAGE
    return everything[start : start + size]
