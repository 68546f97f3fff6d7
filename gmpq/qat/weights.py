"""Trained weights back into the state dict of the module that the network was lowered from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from gmpq.errors import LoweringError
from gmpq.lower.network import Trainable
from gmpq.qat.layers import LoneNorm, QuantizedLayer
from gmpq.qat.network import QatNetwork
from gmpq.qat.norm import EPSILON, Norm

State = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Owners:
    """Which entries of a module's state dict a network's layers and batch norms come from."""

    layers: Mapping[str, str]  # the module's path by layer
    norms: Mapping[str, tuple[str, float]]  # path and epsilon of the batch norm, by layer


def find_owners(module: nn.Module, network: Trainable) -> Owners:
    """Return where the weights of ``network`` stand in ``module``.

    Raises:
        LoweringError: a weight is used twice, changed before it is used, or not a module's own.
    """
    state = module.state_dict()
    layers, norms = {}, {}
    for name, node in network.layers.items():
        if name in {norm.name for found in network.norms.values() for norm in found}:
            continue
        if f"{name}.running_mean" in state:  # a batch norm by itself
            norms[name] = _norm(module, state, name)
            continue
        held = state.get(f"{name}.weight")
        if held is None or not torch.equal(held.float().cpu(), torch.from_numpy(node.weight)):
            raise LoweringError(
                f"layer '{name}': its weight is not that of one module that is called once: "
                "training could not write it back"
            )
        layers[name] = name
        if name in network.norms:
            norms[name] = _only_norm(module, state, network, name)
    return Owners(layers, norms)


def _only_norm(
    module: nn.Module, state: State, network: Trainable, layer: str
) -> tuple[str, float]:
    first, *others = (norm.name for norm in network.norms[layer])
    if others:
        raise LoweringError(
            f"layer '{layer}': two batch norms in a row, {first} and {others[0]}: remove one"
        )
    return _norm(module, state, first)


def _norm(module: nn.Module, state: State, path: str) -> tuple[str, float]:
    if f"{path}.weight" not in state or f"{path}.running_mean" not in state:
        raise LoweringError(
            f"{path}: training needs a batch norm module with weight, bias and running statistics "
            "that is called once"
        )
    part = module.get_submodule(path)
    assert isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d), f"{path}: a batch norm"
    return path, float(part.eps)


@torch.no_grad()
def write_back(module: nn.Module, network: QatNetwork, owners: Owners) -> State:
    """Return the state dict of ``module`` with the trained weights, which it may load.

    Keys, shapes and types are those of ``module``.
    """
    state = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    for node in network.layers():
        part = network.part(node)
        if isinstance(part, QuantizedLayer):
            bias_key = f"{owners.layers[node.name]}.bias"
            _put(state, f"{owners.layers[node.name]}.weight", part.weight)
            if part.norm is None and bias_key in state and part.bias is not None:
                _put(state, bias_key, part.bias)
            if part.norm is not None:
                _put_norm(state, owners.norms[node.name], part.norm, state.get(bias_key))
        elif isinstance(part, LoneNorm):
            _put_norm(state, owners.norms[node.name], part.norm, None)
    return state


def _put_norm(
    state: State, owner: tuple[str, float], norm: Norm, bias: torch.Tensor | None
) -> None:
    """Put a norm that reads sums without ``bias`` where one reads them with it."""
    path, epsilon = owner
    mean = norm.mean if bias is None else norm.mean + bias
    widened = torch.sqrt((norm.variance.double() + epsilon) / (norm.variance.double() + EPSILON))
    _put(state, f"{path}.weight", norm.gamma * widened)
    _put(state, f"{path}.bias", norm.beta)
    _put(state, f"{path}.running_mean", mean)
    _put(state, f"{path}.running_var", norm.variance)


def _put(state: State, key: str, value: torch.Tensor) -> None:
    state[key] = value.detach().to(state[key]).contiguous().clone()
