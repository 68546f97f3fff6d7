"""Measuring candidates on the boards of a fleet, many layers at once.

A layer's candidates are one program (``tune``), which goes to the next free board. Times are worth
comparing between boards that are alike; which ones these are a first visit tells. Results are
remembered one by one, so that whatever becomes of the boards, the next run goes on from there.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from gmpq.backends.rpc import pool
from gmpq.backends.rpc.pool import Fleet, Report
from gmpq.backends.rpc.session import Visit
from gmpq.backends.rpc.tasks import Inquiry, Trial, likeness_of
from gmpq.backends.tvm.kernels.base import Site
from gmpq.backends.tvm.plan.plan import Choice, Verdict, cheapest, plan
from gmpq.backends.tvm.target.cpu import Target
from gmpq.backends.tvm.tuning.tune import (
    ROUNDS,
    Tuning,
    key_of,
    medians,
    others_bytes,
    shortlist,
    worth_measuring,
    write_trial,
)
from gmpq.errors import BoardError
from gmpq.files import temporary
from gmpq.ir import IntGraph

TOGETHER = 4  # programs per board that are compiled before they run: they take disk space
Told: TypeAlias = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class _Untried:
    """A layer whose candidates have no times yet."""

    key: str
    site: Site
    choices: Sequence[Choice]


def likeness(fleet: Fleet, target: Target, told: Told = lambda _: None) -> str:
    """Return what the boards of ``fleet`` are, by the first one that is free.

    Raises:
        BoardError: there is none, or it is none that measures times of ``target``.
    """
    with temporary.folder() as folder:
        report = pool.run(fleet, [Inquiry(_machine(target))], folder, told)
    for _, visit in report.visits:
        if visit.done:
            return likeness_of(visit.before)
    raise BoardError("; ".join(_reasons(report)))


def tuned_on(
    fleet: Fleet, graph: IntGraph, target: Target, tuning: Tuning, told: Told = lambda _: None
) -> Tuning:
    """Return ``tuning``, of a board, with what is measured on those of ``fleet``, and remember it.

    ``told`` is called with what is being done.

    Raises:
        BoardError: a layer could not be measured; the others are remembered.
    """
    untried = list(_untried(graph, target, tuning))
    found: dict[str, Mapping[str, float]] = {}
    for first in range(0, len(untried), TOGETHER * fleet.boards):
        some = untried[first : first + TOGETHER * fleet.boards]
        fleet = _measure(fleet, some, tuning, found, told)
    return replace(tuning, found=found)


def _untried(graph: IntGraph, target: Target, tuning: Tuning) -> Iterator[_Untried]:
    """Yield the layers without known times, one of each kind."""
    found: dict[str, _Untried] = {}

    def note(site: Site, choices: Sequence[Choice]) -> Verdict:
        if worth_measuring(site, choices):
            key = key_of(site, choices, tuning)
            found.setdefault(
                key, _Untried(key, site, shortlist(choices, tuning.level, tuning.threads))
            )
        return cheapest(site, choices)

    plan(graph, target, note)
    known = tuning.known
    return (layer for key, layer in found.items() if key not in known)


def _measure(
    fleet: Fleet,
    layers: Sequence[_Untried],
    tuning: Tuning,
    found: dict[str, Mapping[str, float]],
    told: Told,
) -> Fleet:
    """Add the times of ``layers`` to ``found``; return the fleet with the time that it has left."""

    def ended(index: int, visit: Visit) -> None:
        if visit.done:
            layer = layers[index]
            samples = zip(*visit.steps_ms, strict=True)
            found[layer.key] = medians(layer.choices, samples)
            tuning.remember(layer.key, found[layer.key])

    with temporary.folder() as folder:
        trials = [_trial(layer, tuning, folder, told) for layer in layers]
        start = time.monotonic()
        report = pool.run(fleet, trials, folder, told, ended)
        left_s = max(0, math.ceil(fleet.deadline_s - (time.monotonic() - start)))
    missing = [layer.site.node.name for layer in layers if layer.key not in found]
    if missing:
        raise BoardError(
            f"{', '.join(missing)}: not measured: {'; '.join(_reasons(report))}; "
            "the same command goes on from there"
        )
    return replace(fleet, deadline_s=left_s)


def _trial(layer: _Untried, tuning: Tuning, folder: Path, told: Told) -> Trial:
    told(f"tuning {layer.site.node.name}")
    assert tuning.board is not None
    own = Path(tempfile.mkdtemp(dir=folder))
    program = write_trial(layer.site, layer.choices, own)
    return Trial(
        machine=_machine(layer.site.target),
        likeness=tuning.board,
        directory=str(own),
        program=program,
        threads=tuning.threads,
        rounds=ROUNDS,
        flush_bytes=others_bytes(layer.site),
    )


def _machine(target: Target) -> str:
    return target.triple.split("-", maxsplit=1)[0]


def _reasons(report: Report) -> list[str]:
    """Return why something was not measured, each reason once."""
    told = [f"{v.board}: {v.failed or v.lost}" for _, v in report.visits if not v.done]
    return list(dict.fromkeys([*told, *report.missing]))
