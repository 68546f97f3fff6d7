"""Every operator: the graph computes what the module computes, with the nodes we expect."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from gmpq.ir import Clamp, FloatConv2d, Multiply, Padding, Upsample
from tests.support.networks import Call, check_equal, kinds, randomized

IMAGE = (2, 6, 11, 9)
VECTOR = (2, 12)


def conv(**arguments: object) -> Callable[[], nn.Module]:
    return lambda: nn.Conv2d(6, 12, **arguments)  # type: ignore[arg-type]  # a table of arguments


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(conv(kernel_size=3), id="plain"),
        pytest.param(conv(kernel_size=1, bias=False), id="no-bias"),
        pytest.param(conv(kernel_size=3, stride=2, padding=1), id="stride"),
        pytest.param(conv(kernel_size=(3, 5), stride=(1, 2), padding=(2, 0)), id="uneven-axes"),
        pytest.param(conv(kernel_size=3, dilation=2, padding=2), id="dilation"),
        pytest.param(conv(kernel_size=3, dilation=(1, 3)), id="uneven-dilation"),
        pytest.param(conv(kernel_size=3, groups=3), id="groups"),
        pytest.param(conv(kernel_size=3, groups=6), id="depthwise"),
        pytest.param(conv(kernel_size=3, padding="same"), id="same"),
        pytest.param(conv(kernel_size=(4, 2), padding="same"), id="same-even-kernel"),
        pytest.param(conv(kernel_size=2, padding="same", dilation=3), id="same-dilated"),
        pytest.param(conv(kernel_size=3, padding="valid"), id="valid"),
    ],
)
def test_convolutions(build: Callable[[], nn.Module]) -> None:
    assert kinds(build(), IMAGE) == ["FloatConv2d"]


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        pytest.param(nn.ReLU(), "Clamp", id="relu-module"),
        pytest.param(nn.ReLU(inplace=True), "Clamp", id="relu-inplace"),
        pytest.param(F.relu, "Clamp", id="relu"),
        pytest.param(torch.relu_, "Clamp", id="relu_"),
        pytest.param(nn.ReLU6(), "Clamp", id="relu6-module"),
        pytest.param(F.relu6, "Clamp", id="relu6"),
        pytest.param(nn.Hardtanh(-2, 3), "Clamp", id="hardtanh"),
        pytest.param(lambda x: x.clamp(-1, 2), "Clamp", id="clamp"),
        pytest.param(lambda x: x.clamp_(-1, 2), "Clamp", id="clamp_"),
        pytest.param(lambda x: torch.clamp(x, min=0.5), "Clamp", id="clamp-low"),
        pytest.param(lambda x: torch.clamp(x, max=0.5), "Clamp", id="clamp-high"),
        pytest.param(lambda x: torch.clip(x, -1, 1), "Clamp", id="clip"),
        pytest.param(lambda x: x.clamp_min(-1), "Clamp", id="clamp_min"),
        pytest.param(lambda x: x.clamp_max(1.5), "Clamp", id="clamp_max"),
        pytest.param(nn.LeakyReLU(0.1), "LeakyRelu", id="leaky-relu"),
        pytest.param(lambda x: F.leaky_relu(x, 0.2, inplace=True), "LeakyRelu", id="leaky-relu_"),
        pytest.param(nn.PReLU(), "LeakyRelu", id="prelu-one"),
        pytest.param(nn.PReLU(6), "PRelu", id="prelu-per-channel"),
        pytest.param(nn.SiLU(), "Silu", id="silu"),
        pytest.param(nn.SiLU(inplace=True), "Silu", id="silu-inplace"),
        pytest.param(lambda x: x * torch.sigmoid(x), "Silu", id="x-sigmoid"),
        pytest.param(lambda x: x.sigmoid().mul(x), "Silu", id="sigmoid-x"),
        pytest.param(nn.Hardswish(), "HardSwish", id="hardswish"),
        pytest.param(F.hardswish, "HardSwish", id="hardswish-functional"),
        pytest.param(nn.Sigmoid(), "Sigmoid", id="sigmoid"),
        pytest.param(F.sigmoid, "Sigmoid", id="sigmoid-functional"),
    ],
)
def test_activations(function: Callable[..., object], kind: str) -> None:
    module = function if isinstance(function, nn.Module) else Call(function)
    (node,) = check_equal(randomized(module, IMAGE), IMAGE).nodes
    assert type(node.function).__name__ == kind


def test_bounds_of_relu6() -> None:
    (node,) = check_equal(nn.ReLU6(), IMAGE).nodes
    assert node.function == Clamp(0.0, 6.0)


def test_prelu_of_vectors() -> None:
    assert kinds(nn.PReLU(12), VECTOR) == ["Activation"]


def test_a_sigmoid_that_is_read_elsewhere_stays() -> None:
    def gate(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        sigmoid = x.sigmoid()
        return x * sigmoid, sigmoid

    graph = check_equal(Call(gate), IMAGE)
    assert sorted(type(node.function).__name__ for node in graph.nodes) == ["Sigmoid", "Silu"]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        pytest.param(lambda x: x + x.relu(), ["Activation", "Add"], id="plus"),
        pytest.param(lambda x: x.relu().add_(x), ["Activation", "Add"], id="add_"),
        pytest.param(lambda x: x.relu().__iadd__(x), ["Activation", "Add"], id="iadd"),
        pytest.param(lambda x: torch.add(x, x), ["Add"], id="twice"),
        pytest.param(lambda x: sum([x, x, x]), ["Add", "Add"], id="python-sum"),
        pytest.param(lambda x: torch.cat([x, x.relu()], 1), ["Activation", "Concat"], id="cat"),
        pytest.param(lambda x: torch.cat([x, x, x], -3), ["Concat"], id="cat-negative-axis"),
        pytest.param(lambda x: torch.concat([x, x], dim=1), ["Concat"], id="concat"),
        pytest.param(lambda x: torch.cat([x], 1).relu(), ["Activation"], id="cat-of-one"),
    ],
)
def test_joins(function: Callable[..., object], expected: list[str]) -> None:
    assert kinds(Call(function), IMAGE) == expected


@pytest.mark.parametrize(
    "gate",
    [
        pytest.param(lambda x: x.mean((2, 3), keepdim=True), id="keepdim"),
        pytest.param(lambda x: x.mean((2, 3))[:, :, None, None].expand_as(x), id="expand"),
    ],
)
def test_gates_in_either_order(gate: Callable[[torch.Tensor], torch.Tensor]) -> None:
    graph = check_equal(Call(lambda x: (x * gate(x), gate(x) * x)), IMAGE)
    products = [node for node in graph.nodes if isinstance(node, Multiply)]
    gates = [{graph.values[name].shape[2:] for name in node.inputs} for node in products]
    assert gates == [{IMAGE[2:], (1, 1)}] * 2
    assert not any(isinstance(node, Upsample) for node in graph.nodes)


def test_products_of_one_shape() -> None:
    assert kinds(Call(lambda x: x * x), IMAGE) == ["Multiply"]
    assert kinds(Call(lambda x: x.relu().mul_(x)), VECTOR) == ["Activation", "Multiply"]


def test_products_of_repeated_gates() -> None:
    def twice(x: torch.Tensor) -> torch.Tensor:
        gate = x.mean((2, 3), keepdim=True).expand_as(x)
        return gate * gate

    assert "Upsample" in kinds(Call(twice), IMAGE)


def test_concat_of_vectors() -> None:
    assert kinds(Call(lambda x: torch.cat([x, x], -1)), VECTOR) == ["Concat"]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        pytest.param(lambda x: F.pad(x, (1, 2, 3, 0)), ["Pad"], id="pad"),
        pytest.param(lambda x: F.pad(x, (1, 2)), ["Pad"], id="pad-columns"),
        pytest.param(lambda x: F.pad(x, (1, 2, 0, 1, 0, 0)), ["Pad"], id="pad-no-channels"),
        pytest.param(nn.ZeroPad2d(2), ["Pad"], id="zero-pad"),
        pytest.param(nn.ConstantPad2d((0, 1, 0, 1), 0.0), ["Pad"], id="constant-pad"),
        pytest.param(nn.Upsample(scale_factor=2), ["Upsample"], id="upsample"),
        pytest.param(nn.Upsample(scale_factor=(2, 3)), ["Upsample"], id="upsample-uneven"),
        pytest.param(nn.UpsamplingNearest2d(scale_factor=3), ["Upsample"], id="upsampling-nearest"),
        pytest.param(lambda x: F.interpolate(x, size=(22, 27)), ["Upsample"], id="size"),
        pytest.param(
            lambda x: F.interpolate(x, scale_factor=2, mode="nearest-exact"),
            ["Upsample"],
            id="exact",
        ),
        pytest.param(
            lambda x: x.mean((2, 3), True).expand_as(x), ["GlobalAvgPool", "Upsample"], id="expand"
        ),
        pytest.param(nn.Flatten(), ["Reshape"], id="flatten"),
        pytest.param(lambda x: torch.flatten(x, 1), ["Reshape"], id="flatten-functional"),
        pytest.param(lambda x: x.view(x.size(0), -1), ["Reshape"], id="view"),
        pytest.param(lambda x: x.reshape(2, 3, 22, 9), ["Reshape"], id="reshape"),
        pytest.param(lambda x: x.flatten(2).flatten(1), ["Reshape"], id="reshape-chain"),
        pytest.param(
            lambda x: x.flatten(1).unflatten(1, (6, 11, 9)).relu(), ["Activation"], id="undone"
        ),
    ],
)
def test_layout(function: Callable[..., object], expected: list[str]) -> None:
    module = function if isinstance(function, nn.Module) else Call(function)
    assert kinds(module, IMAGE) == expected


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(lambda x: x.squeeze(-1).squeeze(-1), id="squeeze"),
        pytest.param(lambda x: x.squeeze((2, 3)), id="squeeze-axes"),
        pytest.param(lambda x: x.squeeze(), id="squeeze-all"),
        pytest.param(lambda x: x[:, :, 0, 0], id="index"),
        pytest.param(lambda x: x[..., 0, 0], id="index-ellipsis"),
        pytest.param(lambda x: x.permute(0, 2, 3, 1).reshape(2, 6), id="permute-of-ones"),
    ],
)
def test_axes_of_one_go(function: Callable[..., object]) -> None:
    assert kinds(Call(function), (2, 6, 1, 1)) == ["Reshape"]


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(lambda x: x.permute(0, 1, 2, 3), id="identity"),
        pytest.param(lambda x: x.permute(0, 2, 3, 1).permute(0, 3, 1, 2), id="inverse"),
        pytest.param(lambda x: x.transpose(1, 2).transpose(2, 1), id="transpose-pair"),
        pytest.param(lambda x: x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2), id="copied"),
        pytest.param(
            lambda x: x.permute(0, 3, 1, 2).permute(0, 3, 1, 2).permute(0, 3, 1, 2), id="three"
        ),
        pytest.param(lambda x: x.movedim(1, 3).movedim(3, 1), id="movedim"),
        pytest.param(lambda x: x.transpose(0, 1).transpose(0, 1), id="batch-and-back"),
        pytest.param(lambda x: x.contiguous().clone().detach(), id="copies"),
        pytest.param(lambda x: x.to(memory_format=torch.channels_last), id="channels-last"),
        pytest.param(lambda x: x.float().to(torch.float32), id="float"),
        pytest.param(lambda x: F.dropout(x, 0.5, training=False), id="dropout"),
        pytest.param(lambda x: x[:, :], id="whole-slice"),
        pytest.param(lambda x: x.expand(2, -1, -1, -1), id="expand-to-itself"),
        pytest.param(lambda x: x.unsqueeze(2).squeeze(2), id="unsqueezed"),
    ],
)
def test_what_folds_away(function: Callable[..., torch.Tensor]) -> None:
    assert kinds(Call(lambda x: function(x).relu()), IMAGE) == ["Activation"]


@pytest.mark.parametrize(
    "layer",
    [nn.Dropout(), nn.Dropout2d(), nn.AlphaDropout(), nn.Identity()],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_that_do_nothing_in_evaluation(layer: nn.Module) -> None:
    assert kinds(nn.Sequential(layer, nn.ReLU(), layer), IMAGE) == ["Activation"]


def test_linear() -> None:
    assert kinds(nn.Linear(12, 5), VECTOR) == ["FloatLinear"]


def test_linear_without_bias() -> None:
    assert kinds(nn.Linear(12, 5, bias=False), VECTOR) == ["FloatLinear"]


def test_a_flattened_permutation_becomes_the_order_of_a_linear_layers_columns() -> None:
    module = Call(lambda x, fc: fc(x.permute(0, 2, 3, 1).flatten(1)), nn.Linear(6 * 11 * 9, 5))
    assert kinds(module, IMAGE) == ["Reshape", "FloatLinear"]


@pytest.mark.parametrize("axis", [1, -1], ids=str)
def test_softmax_of_vectors(axis: int) -> None:
    assert kinds(nn.Sequential(nn.Linear(12, 4), nn.Softmax(axis)), VECTOR) == [
        "FloatLinear",
        "Softmax",
    ]


def test_softmax_of_images() -> None:
    assert kinds(nn.Softmax2d(), IMAGE) == ["Softmax"]


@pytest.mark.parametrize("affine", [True, False], ids=["affine", "plain"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
def test_batch_norm_after_a_convolution(*, affine: bool, bias: bool) -> None:
    net = nn.Sequential(nn.Conv2d(6, 8, 3, bias=bias), nn.BatchNorm2d(8, affine=affine), nn.ReLU())
    assert kinds(randomized(net, IMAGE), IMAGE) == ["FloatConv2d", "Activation"]


def test_batch_norm_of_vectors() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU())
    assert kinds(randomized(net, (1, 6, 1, 1)), (4, 6, 1, 1)) == [
        "Reshape",
        "FloatLinear",
        "Activation",
    ]


def test_batch_norm_that_nothing_absorbs_is_an_auxiliary_convolution() -> None:
    net = randomized(nn.Sequential(nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 1)), IMAGE)
    first, _, last = check_equal(net, IMAGE).nodes
    assert isinstance(first, FloatConv2d)
    assert isinstance(last, FloatConv2d)
    assert (first.name, first.auxiliary, first.groups) == ("0", True, 6)
    assert not last.auxiliary


def test_batch_norm_of_vectors_that_nothing_absorbs() -> None:
    net = nn.Sequential(nn.ReLU(), nn.BatchNorm1d(12), nn.ReLU())
    assert kinds(net, VECTOR) == ["Activation", "Reshape", "FloatConv2d", "Reshape", "Activation"]


def test_tensorflow_same_padding_becomes_the_window() -> None:
    module = Call(lambda x, c: c(F.pad(x, (0, 1, 0, 1))), nn.Conv2d(6, 4, 3, 2))
    (node,) = check_equal(module, IMAGE).nodes
    assert isinstance(node, FloatConv2d)
    assert node.window.padding == Padding(0, 0, 1, 1)
