"""The supernet: a float network whose searched convolutions mix quantized copies."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn

from gmpq.errors import SearchError
from gmpq.search.differentiable.inspect import NetworkInfo
from gmpq.search.differentiable.mixed_conv import MixedConv2d
from gmpq.search.differentiable.quantizers import find
from gmpq.search.differentiable.settings import Settings


def make_supernet(module: nn.Module, info: NetworkInfo, settings: Settings) -> nn.Module:
    """Return a copy of ``module`` in which the searched convolutions are mixed convolutions.

    The blocks stay as the network has them; the released search network has other ones, with a
    batch norm before each quantizer and no ReLU.

    Raises:
        SearchError: a quantizer cannot hold the candidate bits, or the input of a layer.
    """
    candidates, quantizers = settings.candidates, find(settings.quantizers)
    most = max(candidates.weight_bits[-1], candidates.input_bits[-1])
    if most > quantizers.most_bits:
        raise SearchError(
            f"{settings.quantizers.value}: quantizes to at most {quantizers.most_bits} bits, got "
            f"{most}: leave them out, or take other quantizers"
        )
    network = copy.deepcopy(module)
    made: dict[int, nn.Module] = {}
    for layer in info.searched:
        conv = network.get_submodule(layer.name)
        assert isinstance(conv, nn.Conv2d)
        try:
            made[id(conv)] = MixedConv2d(conv, candidates, quantizers, signed=layer.signed)
        except SearchError as error:
            raise SearchError(f"{layer.name}: {error}") from error
    _replace(network, made)
    return network


def mixed_convs(network: nn.Module, info: NetworkInfo) -> tuple[MixedConv2d, ...]:
    """Return the mixed convolutions of ``network``, in the order of ``info.searched``."""
    found = [network.get_submodule(layer.name) for layer in info.searched]
    return tuple(part for part in found if isinstance(part, MixedConv2d))


def expected_bits(layers: Sequence[MixedConv2d]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the expected bits [L] of weights and inputs."""
    bits = [layer.expected_bits() for layer in layers]
    return torch.stack([weight for weight, _ in bits]), torch.stack([inputs for _, inputs in bits])


def restart_weights(network: nn.Module, seed: int) -> None:
    """Give all layers the weights of a fresh network, under ``seed``.

    Convolutions are normal with deviation ``sqrt(2 / (k k outputs))``, as released.
    """
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        for part in network.modules():
            match part:
                case nn.Conv2d():
                    nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
                    if part.bias is not None:
                        nn.init.zeros_(part.bias)
                case nn.Linear() | nn.BatchNorm2d():
                    part.reset_parameters()


def with_classes(module: nn.Module, info: NetworkInfo, classes: int) -> nn.Module:
    """Return a copy of ``module`` whose last linear layer has ``classes`` outputs.

    Raises:
        SearchError: the logits are not made by a linear layer.
    """
    linears = [layer.name for layer in info.layers if _is_linear(module, layer.name)]
    if not linears:
        raise SearchError("the network has no linear layer to give other classes: change its code")
    network = copy.deepcopy(module)
    last = network.get_submodule(linears[-1])
    assert isinstance(last, nn.Linear)
    fresh = nn.Linear(last.in_features, classes, bias=last.bias is not None)
    network.set_submodule(linears[-1], fresh)
    return network


def _is_linear(module: nn.Module, name: str) -> bool:
    return isinstance(module.get_submodule(name), nn.Linear)


def _replace(network: nn.Module, made: dict[int, nn.Module]) -> None:
    places = [  # under all of its names
        (name, made[id(part)])
        for name, part in network.named_modules(remove_duplicate=False)
        if id(part) in made
    ]
    for name, mixed_conv in places:
        network.set_submodule(name, mixed_conv)
