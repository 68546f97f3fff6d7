"""The first half of a cell: the float network, and the bits that every method chooses for it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from accuracy import plan
from accuracy.plan import BITS, LEVELS, Cell, StudySettings
from gmpq import models
from gmpq.inputs.images import Preprocessing
from gmpq.lower import lower
from gmpq.policy import LayerBits, ModelSpec
from gmpq.progress import Silent
from gmpq.search.differentiable.options import Files, Request
from gmpq.search.differentiable.run import search_policy
from gmpq.search.differentiable.settings import Recipe, Settings, TeacherRecipe
from gmpq.search.differentiable.teacher import TeacherTraining, save_teacher, train_teacher
from gmpq.search.differentiable.train import accuracy
from gmpq.search.ilp import baselines
from gmpq.search.ilp.bounds import Bounds
from gmpq.search.ilp.candidates import Candidates
from gmpq.search.ilp.constraints import total_bops
from gmpq.search.ilp.space import space_of
from gmpq.search.indicators.indicators import Indicators
from gmpq.search.indicators.measure import Measurement, measure_sensitivity, train_limpq
from gmpq.search.indicators.options import LimpqOptions
from gmpq.search.indicators.policy import Objective, search
from gmpq.search.network_source import NetworkSource
from gmpq.training.augment import Augmentation
from gmpq.training.data import open_labelled

Bits = dict[str, LayerBits]  # by layer
Policies = dict[int, Bits]  # by level
Parts = Mapping[str, Path]  # of a data set: train, val, test

EVALUATED = 250  # images at a time
ATTRIBUTION = {plan.GMPQ: 40.0, plan.EDMIPS: 0.0}  # the weight of GMPQ's loss, as published
LIMPQ_ALPHA = 2.0


@dataclass(frozen=True, slots=True)
class Work:
    """A cell, its data and where its files go."""

    cell: Cell
    study: StudySettings
    parts: Parts
    folder: Path

    @property
    def weights(self) -> Path:
        """The float network's."""
        return self.folder / f"{self.cell.name}.safetensors"

    @property
    def model(self) -> ModelSpec:
        """What policies of the cell say about the network."""
        return ModelSpec(self.cell.arch, str(self.weights), self.cell.dataset.input)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The network's input [1, C, H, W]."""
        return (1, *models.find(self.cell.arch).shape)

    def part(self, name: str) -> tuple[str, ...]:
        """Return where the images of a part are."""
        return (str(self.parts[name]),)


def train_float(work: Work) -> float:
    """Train the float network, keep its weights, and return its accuracy on the test images."""
    study, how = work.study, Preprocessing.of(work.shape, work.cell.dataset.input)
    train, test = (open_labelled(str(work.parts[name]), how) for name in ("train", "test"))
    recipe = TeacherRecipe(study.float_epochs, study.batch, study.float_lr)
    training = TeacherTraining(train, recipe, Augmentation(), work.cell.seed, "cpu")
    teacher = train_teacher(models.find(work.cell.arch).build(), training, Silent())
    save_teacher(teacher, work.weights)
    return accuracy(teacher, test, EVALUATED, "cpu")


def choose(work: Work) -> dict[str, Any]:
    """Return the policies by method and level, their BOPs, and what each search took.

    Seconds are of one thread, without the float network that all of them have. One search answers
    for all levels.
    """
    train = work.part("train")
    source = NetworkSource(work.model, work.folder / "any.json", calibration=train, data=train)
    network = source.open()
    space = space_of(lower(network.module, network.shape, network.name), BITS, BITS)
    seed, seconds = work.cell.seed, dict[str, float]()
    found: dict[str, Policies] = {
        plan.UNIFORM: {n: baselines.uniform(space, LayerBits(n, n)) for n in LEVELS},
        plan.RANDOM: {n: baselines.random(space, n * n, seed) for n in LEVELS},
    }
    limits = {n: total_bops(space, found[plan.UNIFORM][n]) for n in LEVELS}
    for method in ATTRIBUTION:
        with timed(method, seconds):
            found[method] = gmpq(work, method, limits)
    with timed(plan.LIMPQ, seconds):
        steps = limpq(source, work)
    with timed(plan.SENSITIVITY, seconds):
        losses = sensitivity(source, work)
    found[plan.LIMPQ] = answers(steps, Objective(LIMPQ_ALPHA, forbid_falling=True))
    found[plan.REVERSED] = answers(steps, Objective(LIMPQ_ALPHA, True, forbid_falling=True))
    found[plan.SENSITIVITY] = answers(losses, Objective())
    bops = {
        m: {n: total_bops(space, bits) for n, bits in each.items()} for m, each in found.items()
    }
    return {"policies": found, "search_seconds": seconds, "bops": bops}


@contextmanager
def timed(name: str, seconds: dict[str, float]) -> Iterator[None]:
    """Write down what the block takes."""
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start


def gmpq(work: Work, method: str, limits: Mapping[int, float]) -> Policies:
    """Return what one search by GMPQ finds within each of ``limits``."""
    folder = work.folder / f"{work.cell.name}-{'gmpq' if method == plan.GMPQ else 'edmips'}"
    source = NetworkSource(work.model, work.folder / "any.json", data=work.part("train"))
    policies = dict[int, Bits]()
    for n, limit in limits.items():
        request = Request(
            method="gmpq",
            source=source,
            out=folder.with_name(f"{folder.name}-{n}.json"),
            files=Files(folder, resume=bool(policies)),  # its logits answer again
            settings=settings(work, method),
            bounds=Bounds(bops=limit),
        )
        policies[n] = dict(search_policy(request, Silent()).policy.layers)
    return policies


def settings(work: Work, method: str) -> Settings:
    """Return how a supernet of a cell is trained."""
    study = work.study
    recipe = Recipe(study.gmpq_epochs, study.batch, study.gmpq_lr, study.gmpq_logits_lr)
    return Settings(
        Candidates(BITS, BITS),
        recipe=recipe,
        attribution_weight=ATTRIBUTION[method],
        complexity_weight=study.gmpq_complexity,
        seed=work.cell.seed,
    )


def limpq(source: NetworkSource, work: Work) -> Indicators:
    """Return the steps that LIMPQ learns."""
    study = work.study
    options = LimpqOptions(study.limpq_epochs, study.batch, seed=work.cell.seed)
    return train_limpq(source, Candidates(BITS, BITS), options, Silent())


def sensitivity(source: NetworkSource, work: Work) -> Indicators:
    """Return the divergence that each layer's bits cause."""
    some = replace(source, limit=work.study.sensitivity_images)
    return measure_sensitivity(some, Measurement(Candidates(BITS, BITS)), Silent())


def answers(found: Indicators, objective: Objective) -> Policies:
    """Return the bits that losses lead to at each level."""
    bounded = (
        (n, search(found, Bounds(mean_product=n * n), objective, ModelSpec())) for n in LEVELS
    )
    return {n: dict(policy.layers) for n, policy in bounded}
