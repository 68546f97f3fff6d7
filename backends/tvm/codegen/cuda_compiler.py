"""CUDA C to a cubin: by nvcc where it is on PATH, else by NVRTC of PyPI (the extra ``cuda``).

NVRTC User Guide: nvrtcCreateProgram, nvrtcCompileProgram, nvrtcGetCUBIN. Neither needs a GPU.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from gmpq.errors import TargetError, install_extra
from gmpq.files import temporary

NVCC = "nvcc"
STANDARD = "--std=c++17"
REMEMBERED = 64  # cubins of some hundred kilobytes
PACKAGE = "nvidia"  # a namespace: its parts are several packages of PyPI


@dataclass(frozen=True, slots=True)
class Nvrtc:
    """NVRTC's library, and the folders of the headers that texts include."""

    library: Path
    includes: tuple[Path, ...]


def can_compile() -> bool:
    """Return whether a compiler of CUDA C is installed."""
    return shutil.which(NVCC) is not None or find_nvrtc() is not None


@lru_cache(REMEMBERED)
def cubin(text: str, arch: str) -> bytes:
    """Return the machine code of a CUDA text for an architecture, "sm_80".

    Raises:
        TargetError: No compiler is installed, or it cannot compile the text for the architecture.
    """
    if (nvcc := shutil.which(NVCC)) is not None:
        return _by_nvcc(nvcc, text, arch)
    if (nvrtc := find_nvrtc()) is not None:
        return _by_nvrtc(nvrtc, text, arch)
    raise TargetError(
        f"no compiler of CUDA C for {arch}: put {NVCC} on PATH, or {install_extra('cuda')}"
    )


def _by_nvcc(nvcc: str, text: str, arch: str) -> bytes:
    with temporary.folder() as folder:
        source, made = folder / "kernels.cu", folder / "kernels.cubin"
        source.write_text(text)
        command = [nvcc, "-cubin", STANDARD, f"-arch={arch}", "-o", made.name, source.name]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise _failed(NVCC, arch, done.stderr + done.stdout)
        return made.read_bytes()


def find_nvrtc() -> Nvrtc | None:
    """Return where PyPI's packages have put NVRTC, or None; none of them is imported."""
    spec = find_spec(PACKAGE)
    roots = [Path(root) for root in (spec.submodule_search_locations or ())] if spec else []
    found = [path for root in roots for path in root.glob("**/lib/libnvrtc.so.*")]
    versions = {int(path.name.rsplit(".", 1)[1]): path for path in found}
    if not versions:
        return None
    library = versions[max(versions)]
    includes = library.parent.parent / "include"  # CUDA 13 has one for all of its packages
    return Nvrtc(library, (includes, includes / "cccl"))


def _by_nvrtc(nvrtc: Nvrtc, text: str, arch: str) -> bytes:
    try:
        functions = ctypes.CDLL(str(nvrtc.library))
    except OSError as error:
        raise TargetError(f"{nvrtc.library}: cannot be loaded: {error}") from error
    program = ctypes.c_void_p()
    made = functions.nvrtcCreateProgram(
        ctypes.byref(program), text.encode(), b"kernels.cu", 0, None, None
    )
    assert made == 0, "a text without headers is a program"
    try:
        options = [f"--gpu-architecture={arch}", STANDARD, *(f"-I{p}" for p in nvrtc.includes)]
        words = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        if functions.nvrtcCompileProgram(program, len(options), words) != 0:
            raise _failed("NVRTC", arch, _content(functions, program, "ProgramLog").decode())
        return _content(functions, program, "CUBIN")
    finally:
        functions.nvrtcDestroyProgram(ctypes.byref(program))


def _content(functions: ctypes.CDLL, program: ctypes.c_void_p, kind: str) -> bytes:
    size = ctypes.c_size_t()
    functions[f"nvrtcGet{kind}Size"](program, ctypes.byref(size))
    content = ctypes.create_string_buffer(size.value)
    functions[f"nvrtcGet{kind}"](program, content)
    return content.raw


def _failed(compiler: str, arch: str, log: str) -> TargetError:
    lines = [line.strip("\0 ") for line in log.splitlines()]
    wrong = (
        [line for line in lines if "error" in line or "fatal" in line] or lines or ["no message"]
    )
    return TargetError(f"{compiler} cannot compile for {arch}: {wrong[0]}")
