from __future__ import annotations

from gmpq import models
from gmpq.lower import lower
from gmpq.passes.sign_analysis import signed_inputs
from tests.search.nets import SHAPE, inverted


def test_only_inputs_without_relu_are_signed() -> None:
    signed = signed_inputs(lower(inverted(), SHAPE, "net"))
    assert signed == {
        "stem": True,
        "expand": True,
        "depth": False,
        "project": False,
        "fc": True,
    }


def test_resnets_read_positive_numbers() -> None:
    graph = lower(models.find("cifar_resnet8").build(), (1, 3, 32, 32), "net")
    assert [name for name, sign in signed_inputs(graph).items() if sign] == ["conv1"]
