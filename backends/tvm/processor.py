"""Any processor that LLVM knows, as text: ``TRIPLE,CPU[,+FEATURE...]``.

    aarch64-linux-gnu,cortex-a53,+crc    arm-linux-gnueabihf,cortex-a9    x86_64-linux-gnu,znver4

LLVM only logs the name of a processor or feature that it does not know, and compiles for less.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import tvm
from tvm.target import codegen

from gmpq.errors import TargetError, closest

X86, ARM, ARM32 = "x86_64-linux-gnu", "aarch64-linux-gnu", "arm-linux-gnueabihf"
TRIPLES = (X86, ARM, ARM32)
FULL_ARM32 = "arm-unknown-linux-gnueabihf"
# What every program of arm-linux-gnueabihf may use: floats are passed in these registers.
HARD_FLOAT = frozenset(("aclass", "vfp3d16"))


@dataclass(frozen=True, slots=True)
class Processor:
    """A processor as LLVM names it."""

    triple: str
    cpu: str
    attributes: tuple[str, ...] = ()  # LLVM features beyond those of the cpu, "+dotprod"

    def llvm(self) -> tvm.target.Target:
        """Return the processor in TVM's words."""
        # Of three words LLVM takes the second for a vendor, and misses the ABI of 32-bit ARM.
        triple = FULL_ARM32 if self.triple == ARM32 else self.triple
        fields: dict[str, object] = {"kind": "llvm", "mtriple": triple, "mcpu": self.cpu}
        if self.attributes:
            fields["mattr"] = list(self.attributes)
        return tvm.target.Target(fields)

    def features(self) -> frozenset[str]:
        """Return LLVM's names of what the processor has, tuning included."""
        found = {str(feature) for feature in codegen.llvm_get_cpu_features(self.llvm())}
        return frozenset(found | {attribute[1:] for attribute in self.attributes})


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
    if triple == ARM32 and not found.features() >= HARD_FLOAT:
        raise TargetError(f"target {text!r}: {cpu} is no Armv7-A processor with VFPv3 or newer")
    return found


def _check(text: str, what: str, name: str, names: Collection[str]) -> None:
    if name not in names:
        few = f": choose one of {', '.join(names)}" if len(names) <= len(TRIPLES) else ""
        near = closest(name, names) or few or ": LLVM has none like it"
        raise TargetError(f"target {text!r}: {what} {name!r} is unknown{near}")


def _any(triple: str) -> tvm.target.Target:
    return tvm.target.Target({"kind": "llvm", "mtriple": triple})


def _known_features(triple: str, cpus: Iterable[str]) -> frozenset[str]:
    """Return the features that some processor has: LLVM lists no others."""
    return frozenset().union(*(Processor(triple, cpu).features() for cpu in cpus))
