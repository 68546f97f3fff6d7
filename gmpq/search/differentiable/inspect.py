"""What a search needs to know about a network, found by running it once on random images.

Every convolution but the first one is searched: in ResNets all of the residual stages, those of the
shortcuts too, in MobileNetV2 all but the stem. Linear layers are not.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from gmpq.errors import SearchError, closest
from gmpq.lower.outputs import tensors
from gmpq.models.evaluation import evaluating
from gmpq.models.imports import USER_CODE_ERRORS, first_line
from gmpq.search.differentiable.attribution import Head
from gmpq.training.scores import class_scores

IMAGES = 4
TOLERANCE = 1e-4  # of the largest logit: sums over channels in another order differ by less


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution or linear layer, for one image."""

    name: str
    macs: int
    weights: int
    signed: bool  # whether its input was negative somewhere
    searched: bool


@dataclass(frozen=True, slots=True)
class NetworkInfo:
    """The layers in the order in which they run, and where attribution maps come from."""

    layers: tuple[Layer, ...]
    head: Head
    map_pixels: int
    classes: int

    @property
    def searched(self) -> tuple[Layer, ...]:
        """The layers whose bits are searched."""
        return tuple(layer for layer in self.layers if layer.searched)

    @property
    def fixed(self) -> tuple[Layer, ...]:
        """The layers whose bits are not."""
        return tuple(layer for layer in self.layers if not layer.searched)


@dataclass(slots=True)
class _Run:
    """What was seen of one run."""

    macs: dict[str, int] = field(default_factory=dict)
    signed: dict[str, bool] = field(default_factory=dict)
    linear: str | None = None
    sizes: tuple[int, ...] = ()  # of the last convolution's output
    outputs: dict[str, torch.Tensor] = field(default_factory=dict)  # of modules, by time of end


def inspect_network(
    module: nn.Module, shape: tuple[int, int, int], keep: Collection[str] = (), seed: int = 0
) -> NetworkInfo:
    """Return what there is to search in ``module`` for images of ``shape`` [C, H, W].

    Args:
        module: the float network; it is left as it was.
        shape: of an image.
        keep: convolutions that are not searched although they are not the first one.
        seed: of the random images.

    Raises:
        SearchError: the network does not run, has no logits, or nothing to search; or ``keep``
            names no layer.
    """
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(IMAGES, *shape, generator=generator)
    run = _Run()
    with torch.no_grad(), evaluating(module), _watched(module, run):
        logits = _logits(module, images)
    convolutions = [name for name in run.macs if isinstance(module.get_submodule(name), nn.Conv2d)]
    searched = _searched(convolutions, keep)
    layers = tuple(
        Layer(name, macs // IMAGES, _weights(module, name), run.signed[name], name in searched)
        for name, macs in run.macs.items()
    )
    head = _head(module, run, logits)
    features = run.outputs[head.features]
    return NetworkInfo(layers, head, features.shape[2] * features.shape[3], logits.shape[1])


def _logits(module: nn.Module, images: torch.Tensor) -> torch.Tensor:
    shape = list(images.shape[1:])
    try:
        found = module(images)
    except USER_CODE_ERRORS as error:
        raise SearchError(
            f"the network does not run on images of shape {shape}: {first_line(error)}"
        ) from error
    logits = class_scores(found)
    if logits is None:
        shapes = [list(tensor.shape) for tensor in tensors(found)]
        given = ", ".join(map(str, shapes)) or type(found).__name__
        raise SearchError(f"the network gives {given}: a search needs logits [N, classes]")
    return logits


def _weights(module: nn.Module, name: str) -> int:
    return module.get_submodule(name).get_parameter("weight").numel()


def _searched(convolutions: list[str], keep: Collection[str]) -> set[str]:
    for name in keep:
        if name not in convolutions:
            raise SearchError(
                f"{name}: no convolution to keep{closest(name, convolutions)}: name one"
            )
    searched = {name for name in convolutions[1:] if name not in keep}
    if not searched:
        raise SearchError(
            f"the network has {len(convolutions)} convolutions and {len(keep)} are kept: "
            "there is nothing to search"
        )
    return searched


@contextmanager
def _watched(module: nn.Module, run: _Run) -> Iterator[None]:
    handles = [
        part.register_forward_hook(_watch(name, run)) for name, part in module.named_modules()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _watch(name: str, run: _Run) -> Callable[[nn.Module, Any, Any], None]:
    def record(part: nn.Module, inputs: Any, output: Any) -> None:
        if not isinstance(output, torch.Tensor):
            return
        if isinstance(part, nn.Conv2d | nn.Linear):
            run.macs[name] = run.macs.get(name, 0) + output.numel() * part.weight[0].numel()
            run.signed[name] = run.signed.get(name, False) or bool((inputs[0] < 0).any())
        if isinstance(part, nn.Linear):
            run.linear = name
        if isinstance(part, nn.Conv2d):
            run.sizes = output.shape[2:]
        if output.ndim == 4 and name:
            run.outputs.pop(name, None)  # the last end of a module that runs twice counts
            run.outputs[name] = output

    return record


def _head(module: nn.Module, run: _Run, logits: torch.Tensor) -> Head:
    """Return the last output of the last convolution's size, and whether the map is closed."""
    features = [name for name, value in run.outputs.items() if value.shape[2:] == run.sizes][-1]
    if run.linear is not None:
        linear = module.get_submodule(run.linear)
        assert isinstance(linear, nn.Linear)
        pooled = run.outputs[features].mean((2, 3))
        if pooled.shape[1] == linear.in_features and linear.out_features == logits.shape[1]:
            difference = (linear(pooled) - logits).abs().amax()
            if difference <= TOLERANCE * logits.abs().amax():
                return Head(features, run.linear)
    return Head(features, None)
