"""The search learns, is repeatable, goes on where it stopped, and stops where numbers end."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from gmpq.errors import SearchError
from gmpq.progress import Silent
from gmpq.search.differentiable import checkpoint
from gmpq.search.differentiable.assignment import Logits
from gmpq.search.differentiable.inspect import inspect_network
from gmpq.search.differentiable.search import Target, run, search
from gmpq.search.differentiable.settings import (
    ConstantPower,
    ExplainedClass,
    Recipe,
    Settings,
    TeacherRecipe,
)
from gmpq.search.differentiable.supernet_loss import Terms
from gmpq.search.differentiable.teacher import (
    TeacherTraining,
    load_teacher,
    save_teacher,
    train_teacher,
)
from gmpq.search.differentiable.train import Task, accuracy, begin, train
from gmpq.search.ilp.candidates import Candidates
from gmpq.search.ilp.constraints import bops, expected_bops, total_bops
from gmpq.search.ilp.space import Space
from gmpq.training.augment import Augmentation
from gmpq.training.batches import plain_batches
from tests.search.differentiable.small import (
    RECIPE,
    SETTINGS,
    SHAPE,
    Squared,
    labelled,
    small,
    task,
)


@pytest.fixture(scope="module")
def teacher() -> nn.Module:
    training = TeacherTraining(labelled(), TeacherRecipe(20, 16), Augmentation(), 0, "cpu")
    return train_teacher(small(), training, Silent())


def searched(where: Task, teacher: nn.Module | None, settings: Settings = SETTINGS) -> Logits:
    return train(begin(where, settings), teacher, where, Silent())[0]


def log(where: Task) -> list[dict[str, float]]:
    return [json.loads(line) for line in where.log.read_text("utf-8").splitlines()]


def test_a_teacher_learns(teacher: nn.Module) -> None:
    assert not teacher.training
    assert accuracy(teacher, labelled(seed=1), 16, "cpu") > 0.9


def test_a_teacher_is_written_and_read(teacher: nn.Module, tmp_path: Path) -> None:
    save_teacher(teacher, tmp_path / "teacher.safetensors")
    again = load_teacher(small(), tmp_path / "teacher.safetensors", "cpu")
    x = torch.rand(2, *SHAPE)
    assert torch.equal(again(x), teacher(x))


def test_a_search_learns(teacher: nn.Module, tmp_path: Path) -> None:
    where = task(tmp_path)
    settings = replace(SETTINGS, recipe=replace(RECIPE, epochs=10))
    logits = searched(where, teacher, settings)
    lines = log(where)
    assert [line["epoch"] for line in lines] == list(range(1, 11))
    assert lines[-1]["accuracy"] > 0.8
    assert lines[-1]["attribution"] < lines[0]["attribution"]
    assert lines[-1]["expected_bops"] == expected_bops(where.space, *logits.expected())
    assert lines[-1]["argmax_bops"] == total_bops(where.space, where.space.bits(logits.largest()))
    assert lines[-1]["eta_seconds"] == 0
    total = sum(
        lines[-1][name] * weight
        for name, weight in (("cross_entropy", 1), ("attribution", 40), ("complexity", 3e-4))
    )
    assert lines[-1]["loss"] == pytest.approx(total, rel=1e-4)


def test_a_search_is_repeatable(teacher: nn.Module, tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        torch.manual_seed(len(found))  # the state outside does not matter, and is left alone
        before = torch.get_rng_state()
        found.append(searched(task(tmp_path / name), teacher))
        assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(found[0].weights, found[1].weights)
    assert np.array_equal(found[0].inputs, found[1].inputs)


def test_resuming_changes_nothing(teacher: nn.Module, tmp_path: Path) -> None:
    whole = searched(task(tmp_path), teacher)
    short = replace(SETTINGS, recipe=replace(RECIPE, epochs=1))
    run(task(tmp_path), teacher, short, Silent(), resume=False)
    outcome = run(task(tmp_path), teacher, SETTINGS, Silent(), resume=True)
    assert np.array_equal(outcome.logits.weights, whole.weights)
    assert [line["epoch"] for line in log(task(tmp_path))] == [1, 2, 3]


def test_resuming_what_is_done(teacher: nn.Module, tmp_path: Path) -> None:
    first = run(task(tmp_path), teacher, SETTINGS, Silent(), resume=False)
    again = run(task(tmp_path), teacher, SETTINGS, Silent(), resume=True)
    assert np.array_equal(first.logits.weights, again.logits.weights)


def test_complexity_lowers_the_bits(tmp_path: Path) -> None:
    heavy = replace(SETTINGS, attribution_weight=0.0, complexity_weight=1.0)
    logits = searched(task(tmp_path), None, heavy)
    assert not logits.largest().any()  # two bits


def bound_at(space: Space, mean_product: float) -> float:
    """Return the BOPs of ``space`` at a mean ``w * a`` of its searched layers."""
    searched = sum(layer.macs for layer in space.searched)
    return bops(space, 0.0).fixed + mean_product * searched


def test_a_bound_is_kept(teacher: nn.Module, tmp_path: Path) -> None:
    where = task(tmp_path)
    bound = bops(where.space, bound_at(where.space, 9.0))
    found = search(where, teacher, SETTINGS, Target((bound,)), Silent())
    assert found.bops == total_bops(where.space, found.bits) <= bound.limit


def test_a_bound_by_bisection(tmp_path: Path) -> None:
    where = task(tmp_path)
    settings = replace(SETTINGS, attribution_weight=0.0, recipe=replace(RECIPE, epochs=2))
    bound = bops(where.space, bound_at(where.space, 6.0))
    found = search(where, None, settings, Target((bound,), runs=6), Silent())
    assert found.bops <= bound.limit
    assert len(list(tmp_path.glob("complexity-*/log.jsonl"))) == 6


@pytest.mark.parametrize("explained", ExplainedClass)
def test_other_heads_and_classes(explained: ExplainedClass, tmp_path: Path) -> None:
    network = Squared()
    where = replace(task(tmp_path), module=network, info=inspect_network(network, SHAPE))
    once = replace(
        SETTINGS,
        recipe=replace(RECIPE, epochs=1),
        explained=explained,
        power=ConstantPower(),
    )
    searched(where, network.eval().requires_grad_(False), once)
    assert log(where)[0]["power"] == 3


def test_attribution_enters_through_the_loss_alone(teacher: nn.Module, tmp_path: Path) -> None:
    """At weight 0 the maps, by a backward pass too, leave no trace in the gradients."""
    network = Squared()
    where = replace(task(tmp_path), module=network, info=inspect_network(network, SHAPE))
    gradients = []
    for teacher_outputs in (network.eval().requires_grad_(False), None):
        loss = begin(where, replace(SETTINGS, attribution_weight=0.0)).loss.train()
        images, labels = next(plain_batches(labelled().inputs(), 16))
        terms: Terms = loss(
            images, labels, loss.teacher_outputs_of(teacher_outputs, images, labels)
        )
        assert (terms.attribution > 0) == (teacher_outputs is not None)
        terms.total.backward()
        gradients.append([p.grad for p in loss.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    where = task(tmp_path)
    settings = replace(SETTINGS, attribution_weight=0.0, recipe=replace(RECIPE, epochs=1))
    run(where, None, settings, Silent(), resume=False)
    kept = where.checkpoint.read_bytes()
    wild = replace(settings, recipe=Recipe(epochs=9, batch=16, lr=1e30))
    message = (
        r"^epoch 2, step \d: the loss is not finite at --lr 1e\+30: .*has epoch 1: go on .*--lr$"
    )
    with pytest.raises(SearchError, match=message):
        run(where, None, wild, Silent(), resume=True)
    assert where.checkpoint.read_bytes() == kept
    calm = replace(settings, recipe=replace(RECIPE, epochs=2))
    assert run(where, None, calm, Silent(), resume=True).record is not None


def test_a_loss_that_is_not_finite_at_once(tmp_path: Path) -> None:
    wild = replace(SETTINGS, attribution_weight=0.0, recipe=Recipe(epochs=1, batch=16, lr=1e30))
    with pytest.raises(SearchError, match="nothing was kept: start anew with a lower --lr"):
        run(task(tmp_path), None, wild, Silent(), resume=False)
    assert not (tmp_path / "checkpoint.pt").exists()


@pytest.mark.parametrize(
    ("write", "message"),
    [
        pytest.param(None, "no such checkpoint", id="missing"),
        pytest.param(b"PK\x03\x04 torn", "damaged, or not a checkpoint", id="torn"),
        pytest.param({"version": 9}, "is of version 9", id="version"),
    ],
)
def test_checkpoints_that_cannot_be_used(
    tmp_path: Path, write: bytes | dict[str, int] | None, message: str
) -> None:
    where = task(tmp_path)
    if isinstance(write, bytes):
        where.checkpoint.write_bytes(write)
    elif write is not None:
        torch.save(write, where.checkpoint)
    with pytest.raises(SearchError, match=message):
        checkpoint.load(begin(where, SETTINGS), where.checkpoint)


def test_a_checkpoint_of_other_bits(tmp_path: Path) -> None:
    where = task(tmp_path)
    checkpoint.save(begin(where, SETTINGS), where.checkpoint)
    other = replace(SETTINGS, candidates=Candidates((2, 3, 4, 5)))
    with pytest.raises(SearchError, match=r"bits \[\[2, 3, 4, 6\].*give the same options"):
        checkpoint.load(begin(where, other), where.checkpoint)


def test_rates_fall() -> None:
    recipe = Recipe()
    factors = [recipe.factor(epoch) for epoch in (0, 9, 10, 20, 24)]
    assert factors == pytest.approx([1, 1, 0.1, 0.01, 0.01])
