"""This machine: its processor, instruction sets and operating system, as Linux reports them."""

from __future__ import annotations

import os
import platform
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
# What decides how fast and how exact integer products are, as /proc/cpuinfo names it.
INTEGER_FEATURES = (
    *("avx2", "avx_vnni", "avx512bw", "avx512_vnni", "avx512_vpopcntdq", "amx_int8"),
    *("asimd", "asimddp", "i8mm"),
)
# LLVM's names of what Linux calls otherwise; the rest differ by dots and dashes at most.
ALIASES = {
    **{"64bit": "lm", "64bit-mode": "lm", "bmi": "bmi1", "crc32": "sse4_2", "ermsb": "erms"},
    **{"lzcnt": "abm", "pclmul": "pclmulqdq", "prfchw": "3dnowprefetch", "rdrnd": "rdrand"},
    **{"sahf": "lahf_lm", "sha": "sha_ni", "sse3": "pni", "x87": "fpu"},
}
WIDE = frozenset(("avx512f", "avx512bw", "avx512dq", "avx512vl"))


@dataclass(frozen=True, slots=True)
class Host:
    """A machine; ``flags`` are what its kernel says that the processor has."""

    machine: str  # x86_64
    processor: str
    cores: int
    flags: frozenset[str]

    def lacking(self, features: Collection[str]) -> list[str]:
        """Return those of ``features``, as LLVM names them, that the x86 processor has not."""
        found = {_plain(flag) for flag in self.flags}
        return sorted(name for name in features if _plain(ALIASES.get(name, name)) not in found)

    def integer_features(self) -> tuple[str, ...]:
        """Return those of ``flags`` that integer products are made by."""
        return integer_features(self.flags)

    def saturates(self) -> bool:
        """Return whether kernels of u8 x s8 products may add pairs of them in int16.

        They do where x86 has no VNNI: onnxruntime takes the widest vectors, and asks only then
        whether there is an instruction for these (MLAS, platform.cpp).
        """
        if self.machine != "x86_64":
            return False
        return ("avx512_vnni" if self.flags >= WIDE else "avx_vnni") not in self.flags


def integer_features(flags: Collection[str]) -> tuple[str, ...]:
    """Return those of ``flags``, as Linux names them, that integer products are made by."""
    return tuple(flag for flag in INTEGER_FEATURES if flag in flags)


def _plain(name: str) -> str:
    return name.translate(str.maketrans("", "", "._-"))


def host() -> Host:
    """Return the machine that this process runs on."""
    return describe(CPUINFO.read_text("utf-8") if CPUINFO.exists() else "", platform.machine())


def describe(cpuinfo: str, machine: str) -> Host:
    """Return the machine that the text of ``/proc/cpuinfo`` describes."""
    pairs = [line.split(":", maxsplit=1) for line in cpuinfo.splitlines() if ":" in line]
    fields = [(key.strip(), value.strip()) for key, value in pairs]
    names = [value for key, value in fields if key in ("model name", "Model")]
    lists = [value.split() for key, value in fields if key in ("flags", "Features")]
    return Host(
        machine,
        names[0] if names else machine,
        sum(key == "processor" for key, _ in fields) or os.cpu_count() or 1,
        frozenset(lists[0] if lists else ()),
    )


def system() -> str:
    """Return the operating system: distribution, kernel and C library."""
    try:
        name = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:  # a system without /etc/os-release
        name = ""
    kernel = f"{platform.system()} {platform.release()}"
    return ", ".join(part for part in (name, kernel, " ".join(platform.libc_ver())) if part.strip())
