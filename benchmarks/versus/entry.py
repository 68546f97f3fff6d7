"""An entry of a comparison: one program of one tool."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gmpq.backends.tvm.codegen.form import Build
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
class Entry:
    """A program of one tool, ready to run the timed input on its threads."""

    tool: str
    variant: str  # the policy of gmpq, or where a baseline's file comes from
    run: Callable[[], object]
    kernels_used: str  # as the tool reports them
    exact: bool | None = None  # every code equals the reference; None where that is not promised
    compiled: Compiled | None = None  # of gmpq
