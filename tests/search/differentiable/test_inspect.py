"""What is searched in the built-in networks, and what it costs (sections A2, A8 and D3)."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gmpq import models
from gmpq.errors import SearchError
from gmpq.models.resnet import Bottleneck, Plan, ResNet
from gmpq.search.differentiable.attribution import Head
from gmpq.search.differentiable.inspect import NetworkInfo, inspect_network
from tests.search.differentiable.small import SHAPE, Small, Squared


def relative(info: NetworkInfo) -> float:
    macs = [layer.macs for layer in info.searched]
    return sum(macs) / macs[0]


def test_cifar_resnet18() -> None:
    info = inspect_network(models.find("cifar_resnet18").build(), (3, 32, 32))
    names = [layer.name for layer in info.searched]
    assert len(names) == 19
    assert [names[index - 1] for index in (7, 12, 17)] == [
        f"layer{stage}.0.downsample.0" for stage in (2, 3, 4)
    ]
    assert sum(layer.macs for layer in info.searched) == 553_648_128
    assert sum(layer.macs for layer in info.layers) == 555_422_720
    assert relative(info) == pytest.approx(14.667, abs=1e-3)
    assert info.head == Head("layer4", "fc")
    assert (info.map_pixels, info.classes) == (16, 10)
    assert not any(layer.signed for layer in info.searched)


def test_cifar_resnet50() -> None:
    network = ResNet(Plan(Bottleneck, 4, (3, 4, 6, 3)), 10, small=True)
    info = inspect_network(network, (3, 32, 32))
    assert len(info.searched) == 52
    assert sum(layer.macs for layer in info.searched) == pytest.approx(1296.040e6, abs=1e3)
    assert relative(info) == pytest.approx(309.0, abs=1e-2)


def test_other_sizes_and_shallow_networks() -> None:
    info = inspect_network(models.find("cifar_resnet8").build(), (3, 24, 40))
    assert info.head == Head("layer4", "fc")
    assert info.map_pixels == 6 * 10


def test_mobilenet_v2_has_signed_inputs_where_bottlenecks_are_linear() -> None:
    network = models.find("mobilenet_v2").build()
    info = inspect_network(network, (3, 64, 64))
    assert len(info.searched) == 51
    assert info.head == Head("features", "classifier.1")
    signed = [layer.name for layer in info.searched if layer.signed]
    assert signed == [f"features.{block}.conv.0.0" for block in range(2, 18)] + ["features.18.0"]
    depthwise = next(layer for layer in info.searched if layer.name == "features.1.conv.0.0")
    assert depthwise.macs == 32 * 9 * 32 * 32


def test_a_users_network() -> None:
    info = inspect_network(Small(), SHAPE)
    layers = {layer.name: layer for layer in info.layers}
    assert list(layers) == ["stem", "narrow", "wide", "grouped", "head"]
    assert [layer.name for layer in info.searched] == ["narrow", "wide", "grouped"]
    assert layers["grouped"].macs == 8 * 4 * 9 * 6 * 6
    assert layers["head"].macs == 8 * 3
    assert [layers[name].signed for name in ("narrow", "wide", "grouped")] == [False, True, False]
    assert info.head == Head("features", "head")


def test_another_head_needs_a_backward_pass() -> None:
    assert inspect_network(Squared(), SHAPE).head == Head("features", None)


class Named(Small):
    """Returns the features too."""

    def forward(self, x: torch.Tensor) -> dict[str, object]:  # type: ignore[override]
        return {"image": x, "scores": [super().forward(x)]}


def test_scores_are_found_among_named_outputs() -> None:
    assert inspect_network(Named(), SHAPE) == inspect_network(Small(), SHAPE)


def test_nothing_is_changed() -> None:
    network = Small()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    inspect_network(network, SHAPE)
    assert network.training
    assert network.features.training
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert not any(part._forward_hooks for part in network.modules())


def test_a_layer_can_be_kept() -> None:
    info = inspect_network(Small(), SHAPE, keep=("wide",))
    assert [layer.name for layer in info.searched] == ["narrow", "grouped"]
    assert [layer.name for layer in info.fixed] == ["stem", "wide", "head"]


@pytest.mark.parametrize(
    ("network", "shape", "keep", "message"),
    [
        pytest.param(Small(), SHAPE, ("wida",), r"wida: no conv.* \(did you mean wide", id="keep"),
        pytest.param(Small(), (4, 12, 12), (), "does not run on images of shape", id="shape"),
        pytest.param(nn.Conv2d(3, 3, 1), SHAPE, (), "needs logits", id="no-logits"),
        pytest.param(
            nn.Sequential(nn.Conv2d(3, 3, 12), nn.Flatten()),
            SHAPE,
            (),
            "1 convolutions and 0 are kept: there is nothing to search",
            id="one-convolution",
        ),
    ],
)
def test_networks_that_cannot_be_searched(
    network: nn.Module, shape: tuple[int, int, int], keep: tuple[str, ...], message: str
) -> None:
    with pytest.raises(SearchError, match=message):
        inspect_network(network, shape, keep)
