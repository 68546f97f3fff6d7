"""Prefetches of weights (PREFETCHT0, PRFM) that are spread over the products before."""

from __future__ import annotations

from dataclasses import dataclass

from gmpq.backends.tvm.kernels.cpu.isa.builder import Buffer, Expr, prefetch


@dataclass(frozen=True, slots=True)
class WeightPrefetch:
    """Weights that are needed soon: each register tile asks for some of their cache lines.

    One after another between its products: the processor has room for few requests under way, and
    products wait behind those that find none.
    """

    weights: Buffer
    first: Expr
    lines: int  # of a register tile
    elements: int  # of a line

    def fetch(self, number: Expr, part: Expr = 0, parts: int = 1) -> None:
        """Ask for the lines of one of equal parts of a register tile, or for one that is near."""
        first = number * self.lines + part * self.lines // parts
        for line in range(-(-self.lines // parts)):
            prefetch(self.weights, self.first + (first + line) * self.elements)
