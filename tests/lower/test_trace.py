"""What is lowered as it is written lowers as its functional form does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass

import numpy as np
import pytest
import torch
from torch import nn

from gmpq.errors import LoweringError
from gmpq.ir import Shape
from gmpq.lower import lower, trace
from tests.support.networks import Call, check_equal
from tests.support.random_modules import RandomModule

SEEDS = 24


def described(part: object) -> object:
    """Return all of a part of a graph; arrays are equal if their bytes are."""
    match part:
        case np.ndarray():
            return part.dtype, part.shape, part.tobytes()
        case tuple():
            return [described(each) for each in part]
        case dict():
            return {name: described(each) for name, each in part.items()}
        case _ if is_dataclass(part):
            return type(part), [described(getattr(part, field.name)) for field in fields(part)]
        case _:
            return part


def attempt(module: nn.Module, shape: Shape) -> object:
    try:
        return described(lower(module, shape, "module"))
    except LoweringError:
        return None


@pytest.fixture
def functional(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Let torch make every graph functional, until undone."""
    monkeypatch.setattr(trace, "_as_written", lambda program: None)
    return monkeypatch


def check(module: nn.Module, shape: Shape, functional: pytest.MonkeyPatch) -> None:
    found = attempt(module, shape)
    functional.undo()
    assert attempt(module, shape) == found


@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_modules(seed: int, functional: pytest.MonkeyPatch) -> None:
    module = RandomModule(seed).eval()
    check(module, module.shape, functional)


class Calls(nn.Module):
    """Every operator that has another name in its functional form, outside of a layer of torch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4).train()
        self.fc = nn.Linear(36, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        mean, variance = self.norm.running_mean, self.norm.running_var
        y = torch.relu(nn.functional.batch_norm(torch.relu(y), mean, variance))
        y = nn.functional.dropout(y, 0.3, self.training).permute(0, 2, 3, 1)
        y = y.reshape(1, 1, 3, 3, 4)[:, 0].flatten(1)
        result: torch.Tensor = self.fc(y.contiguous())
        return result


def test_calls_outside_of_layers(functional: pytest.MonkeyPatch) -> None:
    check(Calls(), (1, 3, 3, 3), functional)


def conv_then(change: Callable[[torch.Tensor], object]) -> nn.Module:
    return Call(lambda x, conv: change(conv(x)), nn.Conv2d(3, 4, 1)).eval()


def of_a_view(y: torch.Tensor) -> torch.Tensor:
    y.view(y.shape).relu_()
    return y + 1


def read_through_a_view(y: torch.Tensor) -> torch.Tensor:
    seen = y.view(y.shape)
    y.relu_()
    return seen + 1


@pytest.mark.parametrize(
    ("change", "stays"),
    [
        pytest.param(torch.relu_, True, id="relu"),
        pytest.param(lambda y: y.add_(1).mul_(2).relu_(), True, id="one-after-the-other"),
        pytest.param(lambda y: y.flatten(1).relu_(), True, id="a-view-that-alone-is-read"),
        pytest.param(lambda y: (y.relu_(), y + 1), True, id="read-after-it"),
        pytest.param(lambda y: torch.cat([y, -y], 1).relu_(), False, id="after-two-readers"),
        pytest.param(of_a_view, False, id="a-view-of-what-is-read"),
        pytest.param(read_through_a_view, False, id="read-through-a-view"),
    ],
)
def test_changes_in_place(
    change: Callable[[torch.Tensor], object], stays: bool, functional: pytest.MonkeyPatch
) -> None:
    """What nothing else reads is changed as it is written, all else by torch's functional form."""
    module, shape = conv_then(change), (1, 3, 4, 4)
    check(module, shape, functional)
    program = torch.export.export(module, (torch.zeros(shape),), strict=False)
    assert (trace._as_written(program) is not None) is stays
    check_equal(module, shape)
