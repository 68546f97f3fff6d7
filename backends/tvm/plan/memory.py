"""The static memory plan: an offset in one workspace for every value, found ahead of time.

A value lives from the step that writes it to the last step that reads it. Larger values are placed
first, each at the lowest offset that is free during its life (greedy by size; Pisarchyk and Lee,
"Efficient Memory Management for Deep Neural Net Inference", 2020).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gmpq.backends.tvm.target import LayoutRules


@dataclass(frozen=True, slots=True)
class Life:
    """Bytes of a value and the first and last step during which it must be kept."""

    size_bytes: int
    first: int
    last: int

    def overlaps(self, other: Life) -> bool:
        """Return whether both values must be kept at some step."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Offsets by value, the bytes they need, and the bytes that any plan needs."""

    offsets: Mapping[str, int]
    size_bytes: int
    live_bytes: int  # largest sum of the values kept at one step
    rules: LayoutRules

    @property
    def workspace_bytes(self) -> int:
        """Bytes to allocate: those of the values, and what a vector may reach beyond the last."""
        return self.size_bytes + self.rules.slack


def place(lives: Mapping[str, Life], rules: LayoutRules) -> MemoryPlan:
    """Return offsets such that values that live together do not overlap."""
    sizes = {name: _aligned(life.size_bytes, rules) for name, life in lives.items()}
    offsets: dict[str, int] = {}
    for name in sorted(lives, key=lambda n: (-lives[n].size_bytes, n)):
        offsets[name] = _lowest_gap(name, lives, sizes, offsets)
    ends = [offsets[name] + size for name, size in sizes.items()]
    steps = {life.first for life in lives.values()}
    live = [
        sum(sizes[name] for name, v in lives.items() if v.first <= step <= v.last) for step in steps
    ]
    return MemoryPlan(offsets, max(ends, default=0), max(live, default=0), rules)


def _lowest_gap(
    name: str, lives: Mapping[str, Life], sizes: Mapping[str, int], offsets: Mapping[str, int]
) -> int:
    taken = sorted(
        (offset, offset + sizes[other])
        for other, offset in offsets.items()
        if lives[other].overlaps(lives[name])
    )
    start, size = 0, sizes[name]
    for low, high in taken:
        if low - start >= size:
            break
        start = max(start, high)
    return start


def _aligned(size_bytes: int, rules: LayoutRules) -> int:
    return -(-(size_bytes + rules.slack) // rules.alignment) * rules.alignment
