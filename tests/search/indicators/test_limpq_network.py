"""Layers and norms switch between bits where they stand in the network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gmpq import models
from gmpq.errors import LoweringError
from gmpq.qat.quantizers.lsq import Lsq
from gmpq.search.indicators.limpq_network import (
    LARGEST_STEP,
    SMALLEST_STEP,
    Switchable,
    SwitchableNorm,
    make_switchable,
)
from tests.search.nets import SHAPE, inverted

BITS = (2, 3, 8)
SIGNED = {"expand": True, "depth": False, "project": False}


def small() -> Switchable:
    return make_switchable(inverted(), SHAPE, SIGNED, BITS)


def images(count: int, size: int = 12) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def test_norms_follow_the_layer_before_them() -> None:
    switchable = small()
    assert [name for _, name in switchable.norms] == ["expand", "depth", "project"]
    assert isinstance(switchable.network.get_submodule("stem_norm"), nn.BatchNorm2d)
    assert isinstance(switchable.network.get_submodule("depth_norm"), SwitchableNorm)


def test_each_bit_has_its_own_norm() -> None:
    switchable = small()
    switchable.switch({"expand": 2, "depth": 3, "project": 8})
    assert [norm.bits for norm, _ in switchable.norms] == [2, 3, 8]
    switchable.network.train()(images(4))
    (norm, _), *_ = switchable.norms
    moved = {bits: int(copy.num_batches_tracked) for bits, copy in norm.norms.items()}
    before = int(inverted().get_submodule("expand_norm").num_batches_tracked)
    assert {bits: count - before for bits, count in moved.items()} == {"2": 1, "3": 0, "8": 0}


def test_a_layer_computes_on_whole_steps() -> None:
    switchable = small()
    switchable.switch(dict.fromkeys(SIGNED, 3))
    layer = switchable.layers["depth"]
    seen = []
    layer.layer.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
    switchable.network(images(2))
    ((x, y),) = seen
    steps = [
        float(table["3"].get_parameter("step").detach())
        for table in (layer.input_steps, layer.weight_steps)
    ]
    codes = (x / steps[0]).detach()
    torch.testing.assert_close(codes, codes.round(), atol=1e-4, rtol=0)
    assert int(codes.min()) == 0
    assert int(codes.max()) <= 7
    products = (y / (steps[0] * steps[1])).detach()
    torch.testing.assert_close(products, products.round(), atol=1e-2, rtol=0)


def test_inputs_that_can_be_negative_have_signed_codes() -> None:
    layers = small().layers
    for name, sign in SIGNED.items():
        step = layers[name].input_steps["2"]
        assert isinstance(step, Lsq)
        assert step.signed == sign


def test_many_bits_change_little() -> None:
    switchable = small()
    switchable.switch(dict.fromkeys(SIGNED, 8))
    x = images(8)
    with torch.no_grad():
        expected = inverted()(x)
        error = (switchable.network.eval()(x) - expected).abs().max() / expected.abs().max()
    assert float(error) < 0.25


@pytest.mark.parametrize("size", [8, 12, 19])
def test_any_input_size(size: int) -> None:
    assert small().network(images(2, size)).shape == (2, 4)


def test_the_given_network_stays() -> None:
    network = inverted()
    keys = list(network.state_dict())
    make_switchable(network, SHAPE, SIGNED, BITS)
    assert list(network.state_dict()) == keys


def test_steps_stay_in_limpqs_range() -> None:
    switchable = small()
    step = switchable.layers["depth"].weight_steps["2"].get_parameter("step")
    for value, expected in ((9.0, LARGEST_STEP), (-1.0, SMALLEST_STEP)):
        with torch.no_grad():
            step.fill_(value)
        switchable.clamp_steps()
        assert float(step.detach()) == pytest.approx(expected)


def test_resnets_have_a_norm_per_layer() -> None:
    network = models.find("cifar_resnet8").build()
    names = [name for name, part in network.named_modules() if isinstance(part, nn.Conv2d)][1:]
    found = make_switchable(network, (1, 3, 32, 32), dict.fromkeys(names, False), BITS)
    assert sorted(name for _, name in found.norms) == sorted(names)


def test_a_layer_without_a_weight_is_refused() -> None:
    with pytest.raises(LoweringError, match="depthwise: is no module with a parameter"):
        make_switchable(inverted(), SHAPE, {"depthwise": False}, BITS)
