"""What takes part in a measurement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gmpq.backends.tvm.codegen.build import Build
from gmpq.ir import IntGraph
from gmpq.runtime import Network


@dataclass(frozen=True, slots=True, eq=False)
class Compiled:
    """A program of gmpq: what it computes, how it was built, and its files ready to run."""

    graph: IntGraph
    built: Build
    network: Network
    library: Path


@dataclass(frozen=True, slots=True)
class Contender:
    """A program of one tool, ready to run the timed input on its threads."""

    tool: str
    variant: str  # what exactly runs: the policy of gmpq, where a peer's file comes from
    run: Callable[[], object]
    evidence: str  # which kernels the tool says it runs
    exact: bool | None = None  # every code equals the reference; None where that is not promised
    compiled: Compiled | None = None  # of gmpq
