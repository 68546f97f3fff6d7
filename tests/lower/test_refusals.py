"""What is not supported is refused in one line: place, operator, value and cure."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from gmpq.errors import LoweringError, WeightsError
from gmpq.lower import lower
from tests.support.networks import Call

SHAPE = (1, 4, 6, 6)


def refusal(module: nn.Module, shape: tuple[int, ...] = SHAPE) -> str:
    with pytest.raises(LoweringError) as caught:
        lower(module.eval(), shape, "net")
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("function", "message"),
    [
        pytest.param(
            F.gelu,
            "gelu is not supported (docs/operators.md): use ReLU, SiLU or Hardswish",
            id="gelu",
        ),
        pytest.param(
            torch.tanh, "tanh is not supported (docs/operators.md): use Hardtanh", id="tanh"
        ),
        pytest.param(torch.abs, "abs is not supported (docs/operators.md)", id="abs"),
        pytest.param(
            lambda x: x + torch.arange(6), "add has a constant that differs within", id="add-row"
        ),
        pytest.param(
            lambda x: x * torch.arange(36).reshape(6, 6), "mul has a constant that", id="mul-image"
        ),
        pytest.param(
            lambda x: x * torch.ones(3, 4, 6, 6), "enlarges (1, 4, 6, 6) to (3, 4", id="mul-batch"
        ),
        pytest.param(lambda x: x * float("inf"), "a number that is not finite", id="mul-inf"),
        pytest.param(lambda x: x + 1e39, "not finite in float32", id="add-large"),
        pytest.param(lambda x: x / torch.zeros(4, 1, 1), "div divides by 0", id="div-zero"),
        pytest.param(lambda x: 1 / x, "reciprocal is not supported", id="reciprocal"),
        pytest.param(lambda x: x / x.relu(), "div divides by a value: only a", id="div"),
        pytest.param(
            lambda x: torch.div(x, 2, rounding_mode="floor"),
            "div.Tensor_mode is not supported",
            id="div-floor",
        ),
        pytest.param(lambda x: x * 1j, "mul gives torch.complex64: the network must", id="complex"),
        pytest.param(lambda x: x * F.avg_pool2d(x, (6, 1)), "mul of shapes", id="mul"),
        pytest.param(lambda x: torch.cat([x, torch.ones(1, 4, 6, 6)], 1), "a constant", id="cat"),
        pytest.param(lambda x: x + torch.rand(1), "rand draws random numbers", id="random"),
        pytest.param(
            lambda x: x + x.mean((2, 3), True), "add joins shapes (1, 4, 6, 6) and", id="broadcast"
        ),
        pytest.param(lambda x: torch.cat([x, x], 2), "cat is along axis 2", id="cat-rows"),
        pytest.param(
            lambda x: torch.stack([x, x]), "stack is not supported (docs/operators.md)", id="stack"
        ),
        pytest.param(
            lambda x: x.chunk(2, 1)[0], "split is not supported (docs/operators.md)", id="chunk"
        ),
        pytest.param(lambda x: x[:, 0], "select takes one of 4 along axis 1", id="index"),
        pytest.param(lambda x: x[:, :2], "slice is not supported (docs/operators.md)", id="slice"),
        pytest.param(lambda x: x.log_softmax(1), "return the logits, or end in", id="log-softmax"),
        pytest.param(lambda x: x.softmax(3), "softmax has dim=3 on 4 axes", id="softmax-axis"),
        pytest.param(lambda x: x.softmax(1).relu(), "softmax is only supported as", id="softmax"),
        pytest.param(lambda x: x.clamp(2, 1), "clamp has min=2 above max=1", id="clamp-empty"),
        pytest.param(
            lambda x: F.avg_pool2d(x, 2, divisor_override=3), "divisor_override=3", id="divisor"
        ),
        pytest.param(
            lambda x: F.adaptive_avg_pool2d(x, 4), "takes 6x6 to 4x4: the output", id="adaptive"
        ),
        pytest.param(lambda x: x.mean(3), "mean is over axes [3] of shape", id="mean-columns"),
        pytest.param(lambda x: x.mean(), "mean.default is not supported", id="mean-all"),
        pytest.param(
            lambda x: F.max_pool2d(x, 2, return_indices=True)[0], "leave out return_", id="indices"
        ),
        pytest.param(
            lambda x: F.pad(x, (1, 1), value=1.0), "value=1.0: only zeros", id="pad-value"
        ),
        pytest.param(lambda x: F.pad(x, (1, 1, 1, 1), "reflect"), "mode='reflect'", id="reflect"),
        pytest.param(lambda x: F.pad(x, (-1, 0)), "pad has pad=[-1, 0]: it cannot crop", id="crop"),
        pytest.param(lambda x: F.pad(x, (0, 0, 0, 0, 1, 1)), "only rows and columns", id="pad-c"),
        pytest.param(
            lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), "mode='nearest'", id="bi"
        ),
        pytest.param(
            lambda x: F.interpolate(x, size=(9, 9)), "takes 6x6 to 9x9: use whole", id="upsample"
        ),
        pytest.param(
            lambda x: F.interpolate(x, scale_factor=1.4), "takes 6x6 to 8x8", id="scale-1.4"
        ),
        pytest.param(
            lambda x: F.interpolate(x, scale_factor=2.1), "takes 6x6 to 12x12", id="scale-2.1"
        ),
        pytest.param(
            lambda x: x.expand(3, -1, -1, -1), "expand repeats (1, 4, 6, 6) to (3,", id="expand"
        ),
        pytest.param(lambda x: x.reshape(4, -1), "the first axis, the batch, must", id="batch"),
        pytest.param(
            lambda x: x.permute(0, 2, 3, 1).relu(), "reads axes in the order", id="permute"
        ),
        pytest.param(
            lambda x: x.permute(0, 2, 3, 1), "returns its axes in another order", id="permute-out"
        ),
        pytest.param(
            lambda x: x.permute(0, 2, 3, 1).flatten(1).relu(),
            "flattened permutation",
            id="shuffled",
        ),
        pytest.param(lambda x: x.flatten(2), "has an output of shape (1, 4, 36)", id="rank-3"),
        pytest.param(
            lambda x: x.double(), "gives torch.float64: the network must stay", id="double"
        ),
        pytest.param(
            lambda x: F.linear(x, torch.ones(3, 6)), "flatten it before the", id="linear-4d"
        ),
        pytest.param(lambda x: x.flatten(1) @ torch.ones(144, 2), "use Linear", id="matmul"),
        pytest.param(
            lambda x: F.max_pool2d(x.flatten(2), 2), "needs an input [N, C, H, W]", id="pool-3d"
        ),
        pytest.param(
            lambda x: F.conv2d(x, x.relu().reshape(1, 4, 6, 6)), "weight that depends", id="dynamic"
        ),
        pytest.param(lambda x: torch.ones(3), "output ones is not computed", id="constant"),
        pytest.param(lambda x: x, "output x is not computed by a layer", id="identity"),
        pytest.param(
            lambda x: (x.relu(), None), "output 'output.1' is None: every output must", id="none"
        ),
        pytest.param(
            lambda x: {"a": x.relu(), "n": 3}, "output 'n' is 3: every output must", id="three"
        ),
    ],
)
def test_operators_that_are_refused(function: Callable[..., object], message: str) -> None:
    assert message in refusal(Call(function))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        pytest.param(nn.GELU(), "layers.0: gelu is not supported (docs/operators.md)", id="gelu"),
        pytest.param(nn.LayerNorm(6), "layers.0: layer_norm is not supported", id="layer-norm"),
        pytest.param(nn.GroupNorm(2, 4), "use BatchNorm2d", id="group-norm"),
        pytest.param(
            nn.ConvTranspose2d(4, 4, 2), "use nearest Upsample and Conv2d", id="transposed"
        ),
        pytest.param(
            nn.BatchNorm2d(4, track_running_stats=False), "keep the running", id="no-stats"
        ),
        pytest.param(
            nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), "circular", id="circular"
        ),
        pytest.param(nn.PixelShuffle(2), "layers.0: pixel_shuffle", id="pixel-shuffle"),
    ],
)
def test_layers_that_are_refused_by_their_path(layer: nn.Module, message: str) -> None:
    assert message in refusal(Call(lambda x, layer: layer(x), layer))


class TwoInputs(nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y


class Branches(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.relu() if x.sum() > 0 else x.sigmoid()


class Loops(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(int(x.sum())):
            x = x.relu()
        return x


class Raises(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise ValueError("first line\nsecond line")


@pytest.mark.parametrize(
    ("module", "message"),
    [
        pytest.param(TwoInputs(), "TwoInputs: its forward takes 2 inputs (x, y)", id="two-inputs"),
        pytest.param(Branches(), "makes Python numbers of a tensor's values", id="branches"),
        pytest.param(Loops(), "test_refusals.py line", id="loops"),
        pytest.param(Raises(), "shape (1, 4, 6, 6): first line", id="raises"),
        pytest.param(nn.Linear(3, 3), "torch.export fails on one input of shape", id="shape"),
        pytest.param(nn.Conv2d(4, 4, 3).half(), "torch.export fails on one", id="half"),
    ],
)
def test_networks_that_cannot_be_traced(
    module: nn.Module, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert message in refusal(module)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")  # torch's own report would bury the one line


@pytest.mark.parametrize("shape", [(3, 8, 8), (0, 3, 8, 8), (1, 3, -8, 8), ()], ids=str)
def test_shapes_that_no_network_reads(shape: tuple[int, ...]) -> None:
    assert "expected [N, C, H, W] or [N, F]" in refusal(nn.ReLU(), shape)


def test_a_weight_that_is_not_finite() -> None:
    layer = nn.Conv2d(4, 4, 1)
    nn.init.constant_(layer.weight, float("nan"))
    with pytest.raises(WeightsError, match=re.escape("1.weight holds 16 NaN or infinite values")):
        lower(nn.Sequential(nn.ReLU(), layer), SHAPE, "net")


def test_a_batch_norm_that_divides_by_zero() -> None:
    norm = nn.BatchNorm2d(4, eps=0.0)
    assert norm.running_var is not None
    norm.running_var[2] = 0
    assert "running variance + eps = 0 in channel 2: the weights" in refusal(norm)


def test_a_running_variance_below_zero() -> None:
    norm = nn.BatchNorm2d(4)
    assert norm.running_var is not None
    norm.running_var.fill_(-1)
    assert "running variance + eps = -0.99999 in channel 0" in refusal(norm)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch is about to drop it
def test_torchscript_is_no_module() -> None:
    traced = torch.jit.trace(nn.Conv2d(4, 4, 1).eval(), torch.zeros(SHAPE))
    assert refusal(traced).startswith("Conv2d: is TorchScript: give the nn.Module that it was")
    assert "is TorchScript" in refusal(torch.jit.script(nn.Sequential(nn.ReLU())))


def test_a_lazy_layer() -> None:
    message = refusal(nn.Sequential(nn.LazyConv2d(4, 1)))
    assert message.startswith("0.weight: a lazy layer does not know its shape: run the network")


@pytest.mark.filterwarnings("ignore")  # torch's own, of kinds that it is about to drop
@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda x: x.to("meta"), "a meta tensor", id="meta"),
        pytest.param(lambda x: x.to_sparse(), "sparse (sparse_coo)", id="sparse"),
        pytest.param(lambda x: x.to(torch.float8_e4m3fn), "type float8_e4m3fn", id="fp8"),
        pytest.param(
            lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8), "qint8", id="quantized"
        ),
    ],
)
def test_tensors_without_plain_values(
    make: Callable[[torch.Tensor], torch.Tensor], message: str
) -> None:
    module = nn.ReLU()
    module.register_buffer("odd", make(torch.eye(4)))
    assert refusal(module).startswith("odd: is ")
    assert message in refusal(module)


def test_dead_code_may_hold_anything() -> None:
    def dead(x: torch.Tensor) -> torch.Tensor:
        x.softmax(3).mean()
        return x.relu()

    assert len(lower(Call(dead), SHAPE, "net").nodes) == 1
