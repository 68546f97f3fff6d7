"""Any processor that LLVM knows, as text: ``TRIPLE,CPU[,+FEATURE...]``.

    aarch64-linux-gnu,cortex-a53,+crc    arm-linux-gnueabihf,cortex-a9    x86_64-linux-gnu,znver4

LLVM only logs the name of a processor or feature that it does not know, and compiles for less.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from tvm.target import Target as TvmTarget
from tvm.target import codegen

from gmpq.errors import TargetError, closest

X86, ARM, ARM32 = "x86_64-linux-gnu", "aarch64-linux-gnu", "arm-linux-gnueabihf"
TRIPLES = (X86, ARM, ARM32)
FULL_ARM32 = "arm-unknown-linux-gnueabihf"
# What every program of arm-linux-gnueabihf may use: floats are passed in these registers.
HARD_FLOAT = frozenset(("aclass", "vfp3d16"))
# LLVM ends the process where it cannot select code for a program of arm-linux-gnueabihf: Armv8-M's.
ENDING = frozenset(("lob", "mve", "mve.fp", "noarm"))
# LLVM lists how to tune for a processor among its features; these bind nothing on x86.
TUNING = (
    *("slow-", "fast-", "faster-", "false-deps-", "prefer-", "no-bypass-", "use-", "tuning-"),
    *("idiv", "lea-", "pad-", "allow-light-", "branch", "macrofusion", "sbb-dep-", "vzeroupper"),
)
# Instructions that code has only where it asks for them by name, which no kernel does; kernels of
# operating systems often hide them.
BY_NAME = frozenset(
    (
        *("clzero", "enqcmd", "hreset", "invpcid", "kl", "mwaitx", "pconfig", "pku", "prefetchi"),
        *("ptwrite", "rdpru", "shstk", "uintr", "waitpkg", "wbnoinvd", "widekl"),
    )
)
# On ARM LLVM's names of processors and of tuning are too many: what compilers make use of.
OF_ARM = frozenset(
    (
        *("fp-armv8", "neon", "dotprod", "i8mm", "bf16", "fullfp16", "fp16fml", "complxnum"),
        *("crc", "aes", "sha2", "sha3", "sm4", "lse", "lse2", "rdm", "jsconv", "rcpc", "rcpc-immo"),
        *("fptoint", "flagm", "altnzcv", "sve", "sve2", "sme", "sme2", "mops", "cssc", "pauth"),
        *("vfp3", "vfp4", "d32", "fp16", "hwdiv", "hwdiv-arm", "acquire-release"),
    )
)


@dataclass(frozen=True, slots=True)
class Processor:
    """A processor as LLVM names it."""

    triple: str
    cpu: str
    attributes: tuple[str, ...] = ()  # features beyond those of the cpu, "+dotprod", or less, "-x"

    def tvm(self) -> TvmTarget:
        """Return the processor as TVM has it."""
        # Of three words LLVM takes the second for a vendor, and misses the ABI of 32-bit ARM.
        triple = FULL_ARM32 if self.triple == ARM32 else self.triple
        fields: dict[str, object] = {"kind": "llvm", "mtriple": triple, "mcpu": self.cpu}
        if self.attributes:
            fields["mattr"] = list(self.attributes)
        return TvmTarget(fields)

    def features(self) -> frozenset[str]:
        """Return LLVM's names of what the processor has, tuning included."""
        found = {str(feature) for feature in codegen.llvm_get_cpu_features(self.tvm())}
        return frozenset(found | {name[1:] for name in self.attributes if name[0] == "+"})

    def instructions(self) -> frozenset[str]:
        """Return LLVM's names of the instruction sets that code for the processor may use."""
        if self.triple != X86:
            return OF_ARM & self.features()
        return frozenset(f for f in self.features() - BY_NAME if not f.startswith(TUNING))


def parse(text: str) -> Processor:
    """Return the processor of ``TRIPLE,CPU[,+FEATURE...]``.

    Raises:
        TargetError: the triple, the processor or a feature is unknown; close names are offered.
    """
    triple, cpu, *attributes = text.split(",")
    _check(text, "triple", triple, TRIPLES)
    cpus = [str(name) for name in codegen.llvm_get_cpu_archlist(_any(triple))]
    _check(text, "processor", cpu, cpus)
    known = _known_features(triple, cpus) if attributes else frozenset()
    for attribute in attributes:
        if not attribute.startswith("+"):
            raise TargetError(f"target {text!r}: {attribute!r} is no feature: write +FEATURE")
        _check(text, "feature", attribute[1:], known)
    found = Processor(triple, cpu, tuple(attributes))
    if triple == X86 and "64bit" not in found.features():
        raise TargetError(f"target {text!r}: {cpu} runs no code of 64 bits: choose a newer one")
    if triple == ARM32 and not found.features() >= HARD_FLOAT:
        raise TargetError(f"target {text!r}: {cpu} is no Armv7-A processor with VFPv3 or newer")
    if triple == ARM32 and (wrong := sorted(ENDING & found.features())):
        raise TargetError(f"target {text!r}: no Armv7-A processor has {wrong[0]!r}: leave it out")
    return found


def _check(text: str, what: str, name: str, names: Collection[str]) -> None:
    if name not in names:
        few = f": choose one of {', '.join(names)}" if len(names) <= len(TRIPLES) else ""
        hint = closest(name, names) or few or ": LLVM has none like it"
        raise TargetError(f"target {text!r}: {what} {name!r} is unknown{hint}")


def _any(triple: str) -> TvmTarget:
    return TvmTarget({"kind": "llvm", "mtriple": triple})


def _known_features(triple: str, cpus: Iterable[str]) -> frozenset[str]:
    """Return the features that some processor has: LLVM lists no others."""
    return frozenset().union(*(Processor(triple, cpu).features() for cpu in cpus))
