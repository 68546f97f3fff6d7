"""The whole search: teacher, training, and an assignment within the bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from gmpq.errors import OutputError
from gmpq.files.strict_json import JSON
from gmpq.policy import LayerBits
from gmpq.progress import Progress
from gmpq.search.differentiable import checkpoint
from gmpq.search.differentiable.assignment import Logits, bisect, is_within, within
from gmpq.search.differentiable.epoch_log import EpochRecord
from gmpq.search.differentiable.settings import Settings
from gmpq.search.differentiable.train import Task, begin, train
from gmpq.search.ilp.constraints import expected_bops, total_bops
from gmpq.search.ilp.solver import Constraint
from gmpq.training.processes import rank, wait


@dataclass(frozen=True, slots=True)
class Target:
    """What a policy may cost, and how this is reached."""

    constraints: tuple[Constraint, ...] = ()  # none: the largest logits, whatever they cost
    runs: int = 0  # searches with other complexity weights; 0: one search, bits by its logits


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
    bits: dict[str, LayerBits]  # of every layer that a policy names
    bops: int
    assigned: bool  # whether the bounds changed the largest logits


def search(
    task: Task,
    teacher: nn.Module | None,
    settings: Settings,
    target: Target,
    progress: Progress,
    *,
    resume: bool = False,
) -> Found:
    """Return the bits of all layers.

    Args:
        task: the network, its space and the images.
        teacher: the float network whose attribution is imitated, if any.
        settings: of the supernet and its training.
        target: the bounds; several runs need exactly one.
        progress: receives the stages.
        resume: continue from the checkpoint of ``task``.

    Raises:
        SearchError: no policy meets the bounds, the loss is not finite, or there is nothing to
            resume.
        OutputError: checkpoint or log cannot be written.
    """
    if target.runs == 0:
        return _choose(run(task, teacher, settings, progress, resume=resume), task, target)

    def one(weight: float) -> Outcome:
        own = replace(task, work=task.work / f"complexity-{weight:.6g}")
        if rank() == 0:
            make_folder(own.work)
        wait()
        again = resume and own.checkpoint.exists()
        given = replace(settings, complexity_weight=weight)
        return run(own, teacher, given, progress, resume=again)

    return _choose(_bisected(one, target, settings.complexity_weight), task, target)


def _bisected(one: Callable[[float], Outcome], target: Target, first: float) -> Outcome:
    """Return the best search of several complexity weights, of which ``first`` is the first."""
    (constraint,) = target.constraints

    def cost_of(outcome: Outcome) -> float:
        return constraint.total(outcome.logits.largest())

    return bisect(one, cost_of, constraint.limit, first, target.runs)


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
        expected_bops(task.space, *logits.expected()),
        total_bops(task.space, task.space.bits(logits.largest())),
    )


def make_folder(folder: Path) -> None:
    """Make ``folder`` if it is not there; raises ``OutputError``."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror}") from error


def figures(found: Found) -> dict[str, JSON]:
    """Return what is known about ``found``, as a policy keeps it."""
    record = found.outcome.record
    known: dict[str, JSON] = {
        "bops": found.bops,
        "expected_bops": found.outcome.expected_bops,
        "argmax_bops": found.outcome.argmax_bops,
        "assigned": found.assigned,
        "complexity_weight": found.outcome.complexity_weight,
    }
    if record is not None:
        known |= {
            "accuracy": record.accuracy,
            "validation_accuracy": record.validation_accuracy,
            "empty_maps": record.empty_maps,
            "search_seconds": round(record.seconds, 1),
        }
    return known


def _choose(outcome: Outcome, task: Task, target: Target) -> Found:
    largest = outcome.logits.largest()
    free = is_within(largest, target.constraints)
    bits = task.space.bits(largest if free else within(outcome.logits, target.constraints))
    changed = bits != task.space.bits(largest)
    return Found(outcome, bits, total_bops(task.space, bits), assigned=changed)
