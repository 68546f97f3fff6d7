"""Random small modules of operators that lower, of some that do not, and of what users mix in."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

SHAPES = ((1, 3, 8, 8), (2, 4, 6, 5), (1, 6, 1, 1), (3, 12), (1, 1, 7, 4))
MOST_STEPS = 8

Step: TypeAlias = Callable[[list[torch.Tensor]], torch.Tensor]
Make: TypeAlias = Callable[["RandomModule", list[torch.Tensor], random.Random], Step]


class RandomModule(nn.Module):
    """Steps that each append a value to those before; layers are made when shapes are known."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        draw = random.Random(seed)
        self.shape = draw.choice(SHAPES)
        self.layers = nn.ModuleDict()
        self.generator = torch.Generator().manual_seed(seed)
        self.steps: list[Step] = []
        self.returns = draw.randrange(6)
        values = [torch.randn(self.shape, generator=self.generator)]
        for _ in range(draw.randrange(1, MOST_STEPS)):
            step = self._step(draw, values)
            if step is not None:
                self.steps.append(step)

    def _step(self, draw: random.Random, values: list[torch.Tensor]) -> Step | None:
        """Return a step that torch itself can run, after appending its value; None for none."""
        makes = LIKELY if draw.random() < 0.9 else RARE
        try:
            with torch.no_grad():
                step = draw.choice(makes)(self, values, draw)
                found = step([value.clone() for value in values])
        except (RuntimeError, ValueError, IndexError, TypeError, AttributeError):
            return None
        if not isinstance(found, torch.Tensor) or not 0 < found.numel() < 1 << 16:
            return None
        values.append(found)
        return step

    def layer(self, layer: nn.Module) -> nn.Module:
        """Return ``layer`` as a part of this module, with the weights of its own generator."""
        for tensor in layer.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=self.generator) * 0.8 + 0.1)
        self.layers[f"l{len(self.layers)}"] = layer
        return layer

    def constant(self, *shape: int) -> torch.Tensor:
        """Return a buffer of random numbers, none of them near 0."""
        name = f"b{sum(1 for _ in self.buffers(recurse=False))}"
        drawn = torch.randn(shape, generator=self.generator)
        self.register_buffer(name, drawn + drawn.sign() * 0.1)
        found: torch.Tensor = getattr(self, name)
        return found

    def forward(self, x: torch.Tensor) -> object:
        values = [x]
        for step in self.steps:
            values.append(step(values))
        match self.returns:
            case 0:
                return values[-1], values[len(values) // 2]
            case 1:
                return {"last": values[-1], "more": [values[-1]]}
            case _:
                return values[-1]


def _layer(module: RandomModule, values: list[torch.Tensor], draw: random.Random) -> Step:
    """Make a layer, or call one again."""
    at = _picked(values, draw)
    channels = values[at].shape[1] if values[at].ndim > 1 else 1
    if module.layers and draw.random() < 0.3:
        again = draw.choice(list(module.layers.values()))
        return lambda v: again(v[at])
    groups = draw.choice([g for g in (1, 1, 2, 3, channels) if channels % g == 0])
    kinds: tuple[Callable[[], nn.Module], ...] = (
        lambda: nn.Conv2d(channels, draw.choice((1, 2, 3, 5)) * groups, 1, groups=groups),
        lambda: nn.Conv2d(
            channels, 2 * groups, 3, draw.choice((1, 2)), draw.choice((0, 1, "same")), groups=groups
        ),
        lambda: nn.Linear(values[at].shape[-1], draw.randrange(1, 9), bias=draw.random() < 0.5),
        lambda: nn.BatchNorm2d(channels, affine=draw.random() < 0.8),
        lambda: nn.BatchNorm1d(channels),
        lambda: nn.PReLU(draw.choice((1, channels))),
    )
    layer = module.layer(draw.choice(kinds)()).eval()
    return lambda v: layer(v[at])


def _affine(module: RandomModule, values: list[torch.Tensor], draw: random.Random) -> Step:
    """Join a value with a constant, or with another value."""
    at, other = _picked(values, draw), draw.randrange(len(values))
    channels = values[at].shape[1] if values[at].ndim > 1 else 1
    per_channel = (channels, *[1] * (values[at].ndim - 2))
    constant: object = draw.choice((2, -0.5, 0, 1, True, None))
    if constant is None:
        shape = draw.choice((per_channel, (1, *per_channel), (1,), tuple(values[at].shape[-1:])))
        constant = module.constant(*shape)
    join = draw.choice(JOINS)
    match draw.randrange(4):
        case 0:
            return lambda v: join(v[at], v[other])
        case 1:
            return lambda v: join(constant, v[at])
        case _:
            return lambda v: join(v[at], constant)


def _function(_: RandomModule, values: list[torch.Tensor], draw: random.Random) -> Step:
    at, function = _picked(values, draw), draw.choice(FUNCTIONS)
    return lambda v: function(v[at])


def _rare(_: RandomModule, values: list[torch.Tensor], draw: random.Random) -> Step:
    at, function = _picked(values, draw), draw.choice(UNUSUAL)
    return lambda v: function(v[at])


def _joined(_: RandomModule, values: list[torch.Tensor], draw: random.Random) -> Step:
    picked = [_picked(values, draw) for _ in range(draw.randrange(1, 4))]
    axis = draw.choice((1, 1, 1, 0, -1))
    join = draw.choice((torch.cat, torch.cat, torch.cat, torch.stack))
    return lambda v: join([v[index] for index in picked], axis)


LIKELY: tuple[Make, ...] = (_layer, _layer, _function, _function, _function, _affine, _joined)
RARE: tuple[Make, ...] = (_rare,)

JOINS: tuple[Callable[..., torch.Tensor], ...] = (
    *(torch.add, torch.mul, torch.sub, torch.div, torch.rsub),
    lambda a, b: a + b,
    lambda a, b: b - a,
    lambda a, b: torch.add(a, b, alpha=2),
    lambda a, b: a.add_(b),
    lambda a, b: a.mul_(b),
)
FUNCTIONS: tuple[Callable[[torch.Tensor], torch.Tensor], ...] = (
    *(F.relu, F.relu6, F.silu, F.hardswish, torch.sigmoid, torch.relu_, F.leaky_relu),
    lambda x: x * x.sigmoid(),
    lambda x: x * F.relu6(x + 3) / 6,
    lambda x: x.clamp(-1, 1.5),
    lambda x: x.clamp_(min=0),
    lambda x: F.hardtanh(x, -2, 2),
    lambda x: -x,
    lambda x: F.max_pool2d(x, 2),
    lambda x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True),
    lambda x: F.avg_pool2d(x, 2, 1, 1),
    lambda x: F.avg_pool2d(x, 3, 2, 1, True, False),
    lambda x: F.adaptive_avg_pool2d(x, 1),
    lambda x: F.adaptive_avg_pool2d(x, 2),
    lambda x: x.mean((2, 3)),
    lambda x: x.mean((2, 3), keepdim=True),
    lambda x: x.mean((2, 3), keepdim=True).expand_as(x),
    lambda x: F.pad(x, (1, 0, 2, 1)),
    lambda x: F.interpolate(x, scale_factor=2),
    lambda x: x.flatten(1),
    lambda x: x.flatten(2),
    lambda x: x.view(x.shape[0], -1),
    lambda x: x.reshape(x.shape[0], -1, 1, 1),
    lambda x: x.permute(0, 2, 3, 1),
    lambda x: x.permute(0, 3, 1, 2),
    lambda x: x.transpose(1, 2),
    lambda x: x.transpose(1, 2).flatten(1),
    lambda x: x.unsqueeze(-1),
    lambda x: x.squeeze(),
    lambda x: x.clone().contiguous().detach(),
    lambda x: x.softmax(1),
)
UNUSUAL: tuple[Callable[[torch.Tensor], torch.Tensor], ...] = (
    *(F.gelu, torch.abs, torch.exp, torch.tanh, F.elu, F.hardsigmoid, F.softplus, torch.sqrt),
    lambda x: x.chunk(2, 1)[0],
    lambda x: x.split(1, 1)[-1],
    lambda x: x[:, :1],
    lambda x: x[:, 0],
    lambda x: x[..., ::2],
    lambda x: x.flip(1),
    lambda x: x.double(),
    lambda x: x.half().float(),
    lambda x: x.to(torch.int32).float(),
    lambda x: x > 0,
    lambda x: torch.where(x > 0, x, -x),
    lambda x: x * (x > 0),
    lambda x: x.masked_fill(x < 0, 0.0),
    lambda x: x.sum(),
    lambda x: x.sum(1, keepdim=True),
    lambda x: x.amax((2, 3)),
    lambda x: x.max(1).values,
    lambda x: x.argmax(1),
    lambda x: x * float(x.sum() > 0),
    lambda x: x * x.shape[1],
    lambda x: x + torch.arange(x.shape[-1]),
    lambda x: x + torch.ones_like(x),
    lambda x: x * torch.zeros(x.shape[1:]).add_(2),
    lambda x: torch.einsum("n...,n...->n...", x, x),
    lambda x: x.repeat(1, 2, *[1] * (x.ndim - 2)),
    lambda x: x.roll(1, -1),
    lambda x: F.normalize(x),
    lambda x: F.layer_norm(x, x.shape[1:]),
    lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    lambda x: F.pad(x, (1, 1, 1, 1), "reflect"),
    lambda x: F.pad(x, (-1, 0)),
    lambda x: F.pixel_shuffle(x, 2),
    lambda x: F.dropout(x, 0.5, training=False),
    lambda x: x @ x.transpose(-1, -2),
    lambda x: torch.zeros(x.shape),
    lambda x: x.view(torch.int32).float(),
    lambda x: x.new_zeros(x.shape).copy_(x),
    lambda x: x.flatten(1)[:, 1:],
    lambda x: x.log_softmax(1),
    lambda x: x.reshape(-1, x.shape[-1]),
    lambda x: x.pow(2),
    lambda x: x.square().mean((2, 3)),
    lambda x: x[x > 0].sum() * x,
    lambda x: torch.complex(x, x).real,
)


def _picked(values: list[torch.Tensor], draw: random.Random) -> int:
    return len(values) - 1 if draw.random() < 0.7 else draw.randrange(len(values))
