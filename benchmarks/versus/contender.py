"""What takes part in a measurement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Contender:
    """A program of one tool, ready to run the timed input on its threads."""

    tool: str
    variant: str  # what exactly runs: the policy of gmpq, where a peer's file comes from
    run: Callable[[], object]
    evidence: str  # which kernels the tool says it runs
    exact: bool | None = None  # every code equals the reference; None where that is not promised
