"""Choosing kernels by measured time, remembered on disk.

The candidates of a node become the steps of one small program over the same tensors, and are run in
turn, round after round. Before each run as many bytes are read as the network has weights, which
drives the constants out of the caches as far as its other layers do. The median decides.

A result is kept under a key of all that the time depends on: the node's shape, its codes, the
target, the threads, the candidates, the versions of TVM and of these kernels, and what board it was
measured on, if any (``boards``). Whether codes or float32 are stored is not in it: that adds
the same to every candidate.
"""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import tvm

from gmpq.backends.tvm.codegen.build import assemble
from gmpq.backends.tvm.host import HostProgram
from gmpq.backends.tvm.kernels.base import Site
from gmpq.backends.tvm.plan.memory import Life, place
from gmpq.backends.tvm.plan.plan import (
    Choice,
    Chooser,
    Plan,
    Step,
    Verdict,
    name_of,
    predicted,
    size_bytes,
)
from gmpq.backends.tvm.target import AnyTarget, Target
from gmpq.backends.tvm.tuning.cache import Warn, read, remember
from gmpq.backends.tvm.tuning.level import TuningLevel
from gmpq.files import temporary
from gmpq.ir import Conv2d, Graph, IntGraph, Linear
from gmpq.program import Program

KERNELS_VERSION = 9  # raise it when a kernel's speed changes
VNNI_VERSION = 10  # the same of targets with AVX-512 VNNI
ROUNDS = 15
SHORTEST_MS = 1e-5  # as times are rounded
QUICK = 4
SHIPPED = Path(__file__).with_name("shipped.json")


def _ignore(_warning: str) -> None:
    """Report to nobody."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """How to tune: level, threads of the measured runs, and earlier results.

    ``cache`` is read and written; the package's own results are read too. With a ``board``, results
    are of boards like it, and nothing is measured here. ``warn`` receives what is wrong with them.
    """

    level: TuningLevel
    threads: int
    cache: Path | None = None
    board: str | None = None
    found: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    warn: Warn = _ignore

    @property
    def known(self) -> dict[str, Mapping[str, float]]:
        """All earlier results, by key."""
        shipped = read(SHIPPED, KERNELS_VERSION, self.warn)
        return shipped | read(self.cache, KERNELS_VERSION, self.warn) | dict(self.found)

    def remember(self, key: str, measured_ms: Mapping[str, float]) -> None:
        """Add a result to the cache."""
        remember(self.cache, KERNELS_VERSION, {key: measured_ms}, self.warn)

    def measures(self, site: Site[Target]) -> bool:
        """Return whether candidates at ``site`` are measured on this machine."""
        here = self.board is None and site.target.runs_here()
        return here and self.level is not TuningLevel.OFF


def shortlist(choices: Sequence[Choice], level: TuningLevel, threads: int) -> list[Choice]:
    """Return the choices that ``level`` measures on ``threads`` threads."""
    if level is TuningLevel.FULL:
        return list(choices)
    ranked = sorted(choices, key=lambda choice: choice[1].cost_on(threads))
    firsts = {family.name: (family, candidate) for family, candidate in reversed(ranked)}
    best = ranked[:QUICK]
    return best + [choice for choice in firsts.values() if choice not in best]


def tuned(tuning: Tuning, on_layer: Callable[[str], None]) -> Chooser:
    """Return a chooser that takes remembered results, and measures what is not known yet.

    ``on_layer`` is called with the name of each node that is measured.
    """
    guess, known = predicted(tuning.threads), tuning.known

    def choose(site: Site[Target], choices: Sequence[Choice]) -> Verdict:
        if not worth_measuring(site, choices):
            return guess(site, choices)
        key = key_of(site, choices, tuning)
        if not _usable(choices, known.get(key, {})):
            if not tuning.measures(site):
                return guess(site, choices)
            on_layer(site.node.name)
            worth = shortlist(choices, tuning.level, tuning.threads)
            known[key] = measure(site, worth, tuning.threads)
            tuning.remember(key, known[key])
        return fastest(choices, known[key])

    return choose


def worth_measuring(site: Site[AnyTarget], choices: Sequence[Choice]) -> bool:
    """Return whether there is a choice, at a layer."""
    return len(choices) > 1 and isinstance(site.node, Conv2d | Linear)


def _usable(choices: Sequence[Choice], measured_ms: Mapping[str, float]) -> bool:
    return any(name_of(choice) in measured_ms for choice in choices)


def fastest(choices: Sequence[Choice], measured_ms: Mapping[str, float]) -> Verdict:
    """Return the choice with the smallest measured time, of equal ones the first choice."""
    known = {name_of(choice): choice for choice in choices if name_of(choice) in measured_ms}
    times = {name: measured_ms[name] for name in known}  # in one order, wherever they come from
    best = min(times, key=times.__getitem__)
    rate = known[best][1].cost / max(times[best], SHORTEST_MS)
    costs = {name: rate * spent for name, spent in times.items()}
    return Verdict(known[best], times, costs)


def key_of(site: Site[AnyTarget], choices: Sequence[Choice], tuning: Tuning) -> str:
    """Return the key under which a result is remembered."""
    node = site.node
    window = asdict(node.window) if isinstance(node, Conv2d) else None
    described = {
        "kernels": _version(site.target),
        "tvm": tvm.__version__,
        **site.target.fingerprint(),
        "threads": tuning.threads,
        "window": window,
        "groups": node.groups if isinstance(node, Conv2d) else 1,
        "layouts": [asdict(tensor.codes) for tensor in (*site.inputs, *site.results)],
        "addition": site.addition is not None,
        "near": site.weights_stay_in_llc,
        "copies": len(site.copies),
        "candidates": sorted(name_of(choice) for choice in choices),
        **({} if tuning.board is None else {"board": tuning.board}),
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:24]


def _version(target: AnyTarget) -> int:
    features = target.fingerprint().get("features")
    vnni = isinstance(features, list) and "avx512vnni" in features
    return VNNI_VERSION if vnni else KERNELS_VERSION


# --- measuring -----------------------------------------------------------------------------------


def measure(site: Site[Target], choices: Sequence[Choice], threads: int) -> dict[str, float]:
    """Return the median milliseconds of each choice by name."""
    with temporary.folder() as folder:
        program = HostProgram.open(folder, write_candidates(site, choices, folder))
        program.network.set_threads(threads)
        samples = program.time_steps({}, ROUNDS + 1, flush_bytes_of(site))
        program.close()
    return medians(choices, [times[1:] for times in samples.values()])  # the first warms up


def flush_bytes_of(site: Site[Target]) -> int:
    """Return the bytes to read before each run, so that its constants are not in caches."""
    return max(site.target.flush_bytes, site.weights_bytes)


def medians(choices: Sequence[Choice], samples_ms: Iterable[Sequence[float]]) -> dict[str, float]:
    """Return the median of each choice's milliseconds, by name."""
    return {
        name_of(choice): round(statistics.median(times), 5)
        for choice, times in zip(choices, samples_ms, strict=True)
    }


def write_candidates(site: Site[Target], choices: Sequence[Choice], folder: Path) -> Program:
    """Write a program whose steps are the candidates into ``folder`` and return it."""
    return assemble(_NOTHING, _trial(site, choices), site.target, folder).program


_NOTHING: IntGraph = Graph("trial", (), (), {}, ())


def _trial(site: Site[Target], choices: Sequence[Choice]) -> Plan:
    """Return a plan whose steps are the candidates, all on the same tensors."""
    outputs = tuple(tensor.value.name for tensor in site.results)
    steps = tuple(
        Step(name_of((family, candidate)), outputs, family.name, "", (candidate.build(),), {}, {})
        for family, candidate in choices
    )
    tensors = {tensor.value.name: tensor for tensor in (*site.operands, *site.results)}
    lives = {name: Life(size_bytes(tensor), 0, 1) for name, tensor in tensors.items()}
    return Plan(steps, tensors, place(lives, site.target.layout_rules))
