"""The whole search: teacher, training, and a policy within the bound."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from gmpq.errors import OutputError, SearchError, closest
from gmpq.files.strict_json import JSON
from gmpq.passes import cost
from gmpq.policy import LayerBits, ModelSpec, Policy, Provenance
from gmpq.progress import Progress
from gmpq.search.differentiable import checkpoint
from gmpq.search.differentiable.assignment import Bill, Logits, bisect, within
from gmpq.search.differentiable.epoch_log import EpochRecord
from gmpq.search.differentiable.inspect import Layer, NetworkInfo
from gmpq.search.differentiable.settings import Settings
from gmpq.search.differentiable.train import Task, begin, train
from gmpq.training.processes import rank, wait

FIXED = LayerBits(8, 8)  # of stem and classifier, which the search leaves in float


@dataclass(frozen=True, slots=True)
class Bound:
    """The most BOPs that a policy may cost, and how it is kept."""

    bops: float | None = None  # None: the largest logits, whatever they cost
    runs: int = 0  # searches with other complexity weights; 0: one search, bits by its logits


@dataclass(frozen=True, slots=True)
class Deployment:
    """The network that the policy is for: its layers may be larger than those of the search."""

    layers: tuple[Layer, ...]
    model: ModelSpec
    fixed: LayerBits = FIXED

    def bill(self, info: NetworkInfo) -> Bill:
        """Return what bits of the searched layers cost here.

        Raises:
            SearchError: a searched layer is missing here.
        """
        macs = {layer.name: layer.macs for layer in self.layers}
        all_macs, product = sum(macs.values()), self.fixed.w * self.fixed.a
        counted = cost.published_shares(list(macs.values()), all_macs)
        shares = dict(zip(macs, counted, strict=True))
        for layer in info.searched:
            if layer.name not in macs:
                raise SearchError(
                    f'--for: layer "{layer.name}" of the searched network is not in the other one'
                    f"{closest(layer.name, macs)}: take networks of the same layers"
                )
        names = [layer.name for layer in info.searched]
        others = macs.keys() - names
        return Bill(
            tuple(macs[name] for name in names),
            sum(macs[name] for name in others) * product,
            tuple(shares[name] for name in names),
            sum(shares[name] for name in others) * product,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What a search found."""

    logits: Logits
    record: EpochRecord | None  # of the last epoch that ran
    complexity_weight: float
    expected_bops: float
    argmax_bops: int


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The bits, and how they were found."""

    outcome: Outcome
    bits: tuple[LayerBits, ...]  # of the searched layers
    bops: int
    assigned: bool  # whether the bound changed the largest logits


def search(
    task: Task,
    teacher: nn.Module | None,
    settings: Settings,
    bound: Bound,
    progress: Progress,
    *,
    resume: bool = False,
) -> Found:
    """Return the bits of the searched layers.

    Raises:
        SearchError: the bound is below what any policy costs, the loss is not finite, or there is
            nothing to resume.
        OutputError: checkpoint or log cannot be written.
    """
    if bound.bops is None or bound.runs == 0:
        return _choose(run(task, teacher, settings, progress, resume=resume), task, bound)

    def one(weight: float) -> Outcome:
        folder = task.work / f"complexity-{weight:.6g}"
        if rank() == 0:
            make_folder(folder)
        wait()
        own = replace(task, work=folder)
        given = replace(settings, complexity_weight=weight)
        again = resume and own.checkpoint.exists()
        return run(own, teacher, given, progress, resume=again)

    first = settings.complexity_weight
    best = bisect(one, lambda outcome: outcome.argmax_bops, bound.bops, first, bound.runs)
    return _choose(best, task, replace(bound, runs=0), already=best.argmax_bops <= bound.bops)


def run(
    task: Task, teacher: nn.Module | None, settings: Settings, progress: Progress, *, resume: bool
) -> Outcome:
    """Return what one search found, from its beginning or from where it was left."""
    training = begin(task, settings)
    if resume:
        checkpoint.load(training, task.checkpoint)
    elif rank() == 0:
        task.log.unlink(missing_ok=True)
        task.checkpoint.unlink(missing_ok=True)
    wait()
    logits, record = train(training, teacher, task, progress)
    return Outcome(
        logits,
        record,
        settings.complexity_weight,
        task.bill.expected(*logits.expected()),
        task.bill.of(logits.largest()),
    )


def make_folder(folder: Path) -> None:
    """Make ``folder`` if it is not there; raises ``OutputError``."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror}") from error


def to_policy(
    found: Found, info: NetworkInfo, deployment: Deployment, provenance: Provenance
) -> Policy:
    """Return the policy of ``found``; layers that were not searched have the fixed bits."""
    names = [layer.name for layer in info.searched]
    bits = dict(zip(names, found.bits, strict=True))
    return Policy(
        layers={layer.name: bits.get(layer.name, deployment.fixed) for layer in deployment.layers},
        model=deployment.model,
        provenance=provenance,
    )


def figures(found: Found) -> dict[str, JSON]:
    """Return what is known about ``found``, as a policy keeps it."""
    record = found.outcome.record
    told: dict[str, JSON] = {
        "bops": found.bops,
        "expected_bops": found.outcome.expected_bops,
        "argmax_bops": found.outcome.argmax_bops,
        "assigned": found.assigned,
        "complexity_weight": found.outcome.complexity_weight,
    }
    if record is not None:
        told |= {
            "accuracy": record.accuracy,
            "validation_accuracy": record.validation_accuracy,
            "empty_maps": record.empty_maps,
            "search_seconds": round(record.seconds, 1),
        }
    return told


def _choose(outcome: Outcome, task: Task, bound: Bound, *, already: bool = False) -> Found:
    largest = outcome.logits.largest()
    limit = math.inf if bound.bops is None or already else bound.bops
    bits = largest if math.isinf(limit) else within(outcome.logits, task.bill, limit)
    return Found(outcome, bits, task.bill.of(bits), assigned=bits != largest)
