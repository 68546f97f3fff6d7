"""Measuring candidates on a pool of boards, many layers at once.

A layer's candidates are one program (``tune``), which goes to the next free board. Times are worth
comparing between boards of one device model, which a first session reports. Results are
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
from gmpq.backends.rpc.pool import DevicePool, Report
from gmpq.backends.rpc.session import Session
from gmpq.backends.rpc.tasks import DeviceQuery, MeasureTask, device_model_of
from gmpq.backends.tvm.kernels.base import Site
from gmpq.backends.tvm.plan.plan import Choice, Verdict, cheapest, plan
from gmpq.backends.tvm.target import Target
from gmpq.backends.tvm.tuning.tune import (
    ROUNDS,
    Tuning,
    flush_bytes_of,
    key_of,
    medians,
    shortlist,
    worth_measuring,
    write_candidates,
)
from gmpq.errors import BoardError
from gmpq.files import temporary
from gmpq.ir import IntGraph

TOGETHER = 4  # programs per board that are compiled before they run: they take disk space
OnProgress: TypeAlias = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class _Untried:
    """A layer whose candidates have no times yet."""

    key: str
    site: Site[Target]
    choices: Sequence[Choice]


def device_model(
    devices: DevicePool, target: Target, on_progress: OnProgress = lambda _: None
) -> str:
    """Return the device model of the boards in ``devices``, as the first free one reports it.

    Raises:
        BoardError: there is none, or it is none that measures times of ``target``.
    """
    with temporary.folder() as folder:
        report = pool.run(devices, [DeviceQuery(target.machine)], folder, on_progress)
    for _, session in report.sessions:
        if session.done:
            return device_model_of(session.before)
    raise BoardError("; ".join(_reasons(report)))


def tuned_on(
    devices: DevicePool,
    graph: IntGraph,
    target: Target,
    tuning: Tuning,
    on_progress: OnProgress = lambda _: None,
) -> Tuning:
    """Return ``tuning`` with the times that boards of ``devices`` measure, and remember them.

    ``on_progress`` receives a line for every layer and board.

    Raises:
        BoardError: a layer could not be measured; the others are remembered.
    """
    untried = list(_untried(graph, target, tuning))
    found: dict[str, Mapping[str, float]] = {}
    for first in range(0, len(untried), TOGETHER * devices.boards):
        some = untried[first : first + TOGETHER * devices.boards]
        devices = _measure(devices, some, tuning, found, on_progress)
    return replace(tuning, found=found)


def _untried(graph: IntGraph, target: Target, tuning: Tuning) -> Iterator[_Untried]:
    """Yield the layers without known times, one of each kind."""
    found: dict[str, _Untried] = {}

    def note(site: Site[Target], choices: Sequence[Choice]) -> Verdict:
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
    devices: DevicePool,
    layers: Sequence[_Untried],
    tuning: Tuning,
    found: dict[str, Mapping[str, float]],
    on_progress: OnProgress,
) -> DevicePool:
    """Add the times of ``layers`` to ``found``; return the pool with the time that is left."""

    def on_end(index: int, session: Session) -> None:
        if session.done:
            layer = layers[index]
            samples = zip(*session.steps_ms, strict=True)
            found[layer.key] = medians(layer.choices, samples)
            tuning.remember(layer.key, found[layer.key])

    with temporary.folder() as folder:
        tasks = [_task(layer, tuning, folder, on_progress) for layer in layers]
        start = time.monotonic()
        report = pool.run(devices, tasks, folder, on_progress, on_end)
        left_s = max(0, math.ceil(devices.deadline_s - (time.monotonic() - start)))
    missing = [layer.site.node.name for layer in layers if layer.key not in found]
    if missing:
        raise BoardError(
            f"{', '.join(missing)}: not measured: {'; '.join(_reasons(report))}; "
            "the same command goes on from there"
        )
    return replace(devices, deadline_s=left_s)


def _task(layer: _Untried, tuning: Tuning, folder: Path, on_progress: OnProgress) -> MeasureTask:
    on_progress(f"tuning {layer.site.node.name}")
    assert tuning.board is not None
    own = Path(tempfile.mkdtemp(dir=folder))
    program = write_candidates(layer.site, layer.choices, own)
    return MeasureTask(
        machine=layer.site.target.machine,
        device_model=tuning.board,
        directory=str(own),
        program=program,
        threads=tuning.threads,
        rounds=ROUNDS,
        flush_bytes=flush_bytes_of(layer.site),
    )


def _reasons(report: Report) -> list[str]:
    """Return why something was not measured, each reason once."""
    failed = [f"{v.board}: {v.failed or v.disconnected}" for _, v in report.sessions if not v.done]
    return list(dict.fromkeys([*failed, *report.missing]))
