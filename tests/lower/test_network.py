"""Names, sharing, changes in place, several outputs: what networks bring beside operators."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention
from torch.nn.utils.parametrizations import weight_norm

from gmpq.errors import LoweringError
from gmpq.ir import FloatConv2d, FloatGraph
from gmpq.lower import lower, run_float
from tests.support.networks import Call, check_equal, image, randomized

SHAPE = (1, 4, 6, 6)


def names(graph: FloatGraph) -> list[str]:
    assert [node.output for node in graph.nodes] == [node.name for node in graph.nodes]
    return [node.name for node in graph.nodes]


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(4, 4, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branch = self.relu(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        total: torch.Tensor = F.relu(branch + x)
        return total


def test_nodes_are_named_by_module_paths() -> None:
    graph = check_equal(nn.Sequential(nn.Sequential(Block()), nn.Flatten()), SHAPE)
    assert names(graph) == [
        "0.0.conv1",
        "0.0.relu",
        "0.0.conv2",
        "0.0.relu:2",
        "0.0.add",
        "0.0.relu:3",
        "1",
    ]


def test_the_root_module_names_by_operator() -> None:
    assert names(check_equal(Call(lambda x: x.relu() + x), SHAPE)) == ["relu", "add"]


def test_a_layer_that_is_the_network() -> None:
    assert names(check_equal(nn.Conv2d(4, 4, 1), SHAPE)) == ["conv2d"]


def test_a_bare_parameter_names_its_layer() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kernel = nn.Parameter(torch.randn(4, 4, 1, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.conv2d(x, self.kernel)

    assert names(check_equal(nn.Sequential(Bare()), SHAPE)) == ["0.kernel"]


def test_the_second_call_of_a_layer_has_its_own_name() -> None:
    module = Call(lambda x, conv: conv(conv(x).relu()), nn.Conv2d(4, 4, 1))
    assert names(check_equal(module, SHAPE)) == ["layers.0", "relu", "layers.0:2"]


def test_a_layer_under_two_paths_is_named_by_the_path_of_the_call() -> None:
    layer = nn.Conv2d(4, 4, 1)
    assert names(check_equal(nn.Sequential(layer, nn.ReLU(), layer), SHAPE)) == ["0", "1", "2"]


def test_layers_that_share_a_weight_keep_their_names() -> None:
    first, second = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
    second.weight = first.weight
    assert names(check_equal(nn.Sequential(first, second), SHAPE)) == ["0", "1"]


def test_a_layer_may_be_called_input() -> None:
    net = nn.Sequential()
    net.add_module("input", nn.Conv2d(4, 4, 1))
    graph = check_equal(net, SHAPE)
    assert [node.name for node in graph.nodes] == ["input"]
    assert graph.inputs == ("input",)
    assert graph.outputs == ("input:2",)


def test_a_computed_weight_is_computed_once() -> None:
    module = nn.Sequential(weight_norm(nn.Conv2d(4, 4, 3)))
    assert names(check_equal(module, SHAPE)) == ["0"]


def test_changes_in_place_reach_every_alias() -> None:
    def forward(x: torch.Tensor, conv: nn.Conv2d) -> tuple[torch.Tensor, torch.Tensor]:
        y = conv(x)
        view = y.flatten(1)
        F.relu_(y)
        return y + y, view

    graph = check_equal(Call(forward, nn.Conv2d(4, 4, 1)), SHAPE)
    assert [node.name for node in graph.nodes] == ["layers.0", "relu", "add", "view"]


def test_a_change_of_the_input_in_place() -> None:
    graph = check_equal(Call(lambda x: x.relu_() + x), SHAPE)
    assert names(graph) == ["relu", "add"]


def test_the_module_is_left_as_it_was() -> None:
    net = randomized(nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Dropout()), SHAPE)
    net.train()
    net[1].eval()
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    graph = lower(net, SHAPE, "net")
    assert [part.training for part in net.modules()] == [True, True, False, True]
    for key, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[key])
    (node,) = graph.nodes
    assert isinstance(node, FloatConv2d)
    weight = node.weight.copy()
    nn.init.zeros_(net[0].weight)
    assert np.array_equal(node.weight, weight)


def test_no_grad_inside_the_network() -> None:
    def frozen(x: torch.Tensor, conv: nn.Conv2d) -> torch.Tensor:
        with torch.no_grad():
            y = conv(x)
        result: torch.Tensor = y.relu()
        return result

    assert names(check_equal(Call(frozen, nn.Conv2d(4, 4, 1)), SHAPE)) == ["layers.0", "relu"]


def test_values_are_yielded_in_order_for_any_batch() -> None:
    graph = lower(nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Flatten()), SHAPE, "net")
    x = image((3, *SHAPE[1:]))
    listed = list(run_float(graph, {"input": x}))
    assert [name for name, _ in listed] == ["input", "0", "1", "2"]
    assert listed[-1][1].shape == (3, 144)
    assert not listed[-1][1].requires_grad


class ViewOfInPlace(nn.Module):
    """A view of what was changed in place is read by a layer of another module."""

    def __init__(self, view: Callable[[torch.Tensor], torch.Tensor], features: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(features, 5)
        self.view = view

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.fc(self.view(self.relu(self.conv(x))).flatten(1))
        return result


def test_a_view_does_not_take_the_name_of_the_layer_that_reads_it() -> None:
    graph = check_equal(ViewOfInPlace(lambda x: x, 144), (1, 3, 8, 8))
    assert names(graph) == ["conv", "relu", "view", "fc"]


@pytest.mark.parametrize(
    ("view", "features"),
    [
        pytest.param(lambda x: x.split((2, 2), 1)[0], 72, id="split"),
        pytest.param(lambda x: x[:, :2], 72, id="slice"),
        pytest.param(lambda x: x.unbind(1)[0], 36, id="unbind"),
    ],
)
def test_a_refused_view_is_told_by_the_module_that_holds_it(
    view: Callable[[torch.Tensor], torch.Tensor], features: int
) -> None:
    module = nn.Sequential(nn.ReLU(inplace=True), ViewOfInPlace(view, features))
    with pytest.raises(LoweringError, match=r"^1: (split|slice|unbind)"):
        lower(module.eval(), (1, 3, 8, 8), "net")
