"""A network whose layers switch between numbers of bits: LIMPQ's, Tang et al., ECCV 2022.

Convolutions and linear layers are wrapped where they stand in the user's module: each gets a
learned step per number of bits for its weight and for its input. Batch norms that follow such a
layer are replaced by one copy per number of bits, since their statistics differ.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.func import functional_call

from gmpq.errors import LoweringError
from gmpq.ir import Shape
from gmpq.qat.quantizers.lsq import Lsq

SMALLEST_STEP, LARGEST_STEP = 1e-5, 1.0  # LIMPQ keeps steps between these

Norms = nn.BatchNorm1d | nn.BatchNorm2d


class SwitchableLayer(nn.Module):
    """A layer with weight and input at ``bits``; steps of inputs start at the first batch."""

    def __init__(self, layer: nn.Module, bits: Sequence[int], signed: bool) -> None:
        """Wrap ``layer``.

        Args:
            layer: with a parameter ``weight``; whatever else it does to its input stays.
            bits: the numbers of bits to switch between.
            signed: whether the input can be negative.
        """
        super().__init__()
        self.layer = layer
        self.bits = bits[-1]
        self.weight_steps = nn.ModuleDict({str(b): Lsq(b, True, None) for b in bits})
        self.input_steps = nn.ModuleDict({str(b): Lsq(b, signed, None) for b in bits})
        self.waiting = set(bits)  # whose input step no batch has set yet
        for step in self.weight_steps.values():
            _start(step, layer.get_parameter("weight"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the layer's output [N, O, ...] for quantized weight and ``x`` [N, C, ...]."""
        key = str(self.bits)
        if self.bits in self.waiting:
            self.waiting.remove(self.bits)
            _start(self.input_steps[key], x.detach())
        weight = self.weight_steps[key](self.layer.get_parameter("weight"))
        result: torch.Tensor = functional_call(
            self.layer, {"weight": weight}, (self.input_steps[key](x),)
        )
        return result


class SwitchableNorm(nn.Module):
    """One copy of a batch norm per number of bits."""

    def __init__(self, norm: nn.Module, bits: Sequence[int]) -> None:
        """Copy ``norm``, its statistics included."""
        super().__init__()
        self.bits = bits[-1]
        self.norms = nn.ModuleDict({str(b): copy.deepcopy(norm) for b in bits})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x`` [N, C, ...] normalized by the copy of the current bits."""
        result: torch.Tensor = self.norms[str(self.bits)](x)
        return result


@dataclass(frozen=True, slots=True, eq=False)
class Switchable:
    """A network with switchable layers, and where they are."""

    network: nn.Module
    layers: Mapping[str, SwitchableLayer]  # by module path
    norms: tuple[tuple[SwitchableNorm, str], ...]  # with the layer that each follows

    def switch(self, bits: Mapping[str, int]) -> None:
        """Set the bits of every layer, and of the norm behind it."""
        for name, layer in self.layers.items():
            layer.bits = bits[name]
        for norm, name in self.norms:
            norm.bits = bits[name]

    @torch.no_grad()
    def clamp_steps(self) -> None:
        """Bring steps that left LIMPQ's range back into it."""
        for layer in self.layers.values():
            for steps in (layer.weight_steps, layer.input_steps):
                for step in steps.values():
                    step.get_parameter("step").clamp_(SMALLEST_STEP, LARGEST_STEP)


def make_switchable(
    module: nn.Module, shape: Shape, signed: Mapping[str, bool], bits: Sequence[int]
) -> Switchable:
    """Return a copy of ``module`` in which the layers of ``signed`` switch between ``bits``.

    Args:
        module: a network that reads one input of ``shape``.
        shape: [N, C, H, W].
        signed: by module path of each layer to wrap, whether its input can be negative.
        bits: the numbers of bits, rising.

    Raises:
        LoweringError: a layer is no module with a parameter ``weight``.
    """
    network = copy.deepcopy(module)
    followed = _followed(network, shape, signed)
    layers = {
        path: SwitchableLayer(_weighted(network, path), bits, sign) for path, sign in signed.items()
    }
    for path, layer in layers.items():
        network.set_submodule(path, layer)
    norms = []
    for path, name in followed.items():
        norm = SwitchableNorm(network.get_submodule(path), bits)
        network.set_submodule(path, norm)
        norms.append((norm, name))
    return Switchable(network, layers, tuple(norms))


def _weighted(network: nn.Module, path: str) -> nn.Module:
    try:
        found = network.get_submodule(path)
        found.get_parameter("weight")
    except AttributeError as error:
        raise LoweringError(
            f"{path}: is no module with a parameter 'weight': use nn.Conv2d or nn.Linear"
        ) from error
    return found


def _followed(network: nn.Module, shape: Shape, layers: Mapping[str, bool]) -> dict[str, str]:
    """Return for each batch norm by path the layer of ``layers`` whose output it reads."""
    outputs: dict[int, tuple[str, torch.Tensor]] = {}  # tensors are held: ids stay theirs
    found: dict[str, str] = {}
    hooks = []

    def watch(path: str, part: nn.Module) -> None:
        def after(_: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            if path in layers:
                outputs[id(output)] = (path, output)
            elif isinstance(part, Norms) and id(inputs[0]) in outputs:
                found[path] = outputs[id(inputs[0])][0]

        hooks.append(part.register_forward_hook(after))

    for path, part in network.named_modules():
        watch(path, part)
    training = network.training
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, *shape[1:]))
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    return found


def _start(step: nn.Module, x: torch.Tensor) -> None:
    assert isinstance(step, Lsq)
    step.start(x)
    with torch.no_grad():
        step.step.clamp_(SMALLEST_STEP, LARGEST_STEP)
