"""How fast a processor takes instructions on vectors: what predictions of cycles share."""

from __future__ import annotations

from dataclasses import dataclass

from gmpq.backends.tvm.target.cpu import CpuTarget


@dataclass(frozen=True, slots=True)
class PipelineModel:
    """Cycles of instructions; LLVM's models of the processors have them."""

    in_order: bool  # one instruction a cycle, loads too; else two on vectors, and loads in parallel
    bytes_multiplied: float  # cycles of sixteen products of bytes in bytes (mla)
    widened: float = 1.0  # cycles of adding neighbours in wider lanes (sadalp)
    waiting: float = 1.0  # for results, times the cycles of instructions that need them soon
    load_penalty: float = 0.0  # cycles by which a load delays other instructions
    issue: float = 2.5  # instructions a cycle, of additions, loads and stores in turn

    @property
    def vector(self) -> float:
        """Cycles of a simple instruction on a vector."""
        return 1.0 if self.in_order else 0.5

    @property
    def slower(self) -> float:
        """Times the cycles of a processor that takes two instructions on vectors a cycle."""
        return 2 * self.vector

    def step(self, computing: float, loads: float) -> float:
        """Return cycles of a step of ``computing`` cycles that loads ``loads`` vectors."""
        if self.in_order:
            return computing + loads
        return max(computing, loads / 2) + self.load_penalty * loads + 0.5


IN_ORDER = PipelineModel(in_order=True, bytes_multiplied=1.0, waiting=1.2, issue=1.0)
# Three instructions a cycle in all; one pipe multiplies 64 bits of operands, the other one widens.
CORTEX_A72_CLASS = PipelineModel(
    in_order=False, bytes_multiplied=2.0, widened=0.0, load_penalty=0.1, issue=1.5
)
OUT_OF_ORDER = PipelineModel(in_order=False, bytes_multiplied=0.5)
SIMPLE = frozenset(("generic", *(f"cortex-{n}" for n in ("a5", "a7", "a8", "a53", "a55"))))


def pipeline_of(target: CpuTarget) -> PipelineModel:
    """Return the model of the target's processor."""
    if "neon" in target.features and target.cpu in SIMPLE:
        return IN_ORDER
    old = "neon" in target.features and "dotprod" not in target.features
    return CORTEX_A72_CLASS if old else OUT_OF_ORDER
