"""The network under measurement: its weights, calibration images, and the timed input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn

from gmpq import models
from gmpq.backends.base import Tensor
from gmpq.calib.collect import collect
from gmpq.calib.statistics import Statistics
from gmpq.ir import FloatGraph, IntGraph, Shape
from gmpq.lower import lower
from gmpq.models.random import random_images, randomize
from gmpq.passes import cost
from gmpq.passes.cost import NetworkCost
from gmpq.passes.ptq import QuantizeOptions, quantize_network
from gmpq.policy import LayerBits

IMAGES = 8  # for calibration, of every tool


@dataclass(frozen=True, eq=False)  # no slots: cached properties live in the instance
class Subject:
    """A built-in network with random but realistic weights."""

    name: str
    module: nn.Module
    images: torch.Tensor  # [IMAGES, C, H, W]

    @classmethod
    def of(cls, name: str, seed: int) -> Subject:
        """Return the network called ``name`` with the weights of ``seed``.

        Raises:
            PolicyError: there is no such network.
        """
        arch = models.find(name)
        module = arch.build().eval()
        randomize(module, seed)
        generator = torch.Generator().manual_seed(seed)
        return cls(name, module, random_images(IMAGES, arch.shape, generator))

    @property
    def shape(self) -> Shape:
        """The input's shape, [1, C, H, W]."""
        return (1, *self.images.shape[1:])

    @property
    def image(self) -> Tensor:
        """The input that is timed, float32 [1, C, H, W]."""
        image: Tensor = self.images[:1].numpy()
        return image

    @cached_property
    def graph(self) -> FloatGraph:
        """The network in real numbers."""
        return lower(self.module, self.shape, self.name)

    @cached_property
    def statistics(self) -> dict[str, Statistics]:
        """Of every value of ``graph`` over the images."""
        return collect(self.graph, [self.images])

    @cached_property
    def macs(self) -> dict[str, int]:
        """Of every layer, in execution order."""
        wide = dict.fromkeys(cost.layer_names(self.graph), LayerBits(8, 8))
        return {layer.name: layer.macs for layer in self.cost(wide).layers if not layer.auxiliary}

    def cost(self, bits: Mapping[str, LayerBits]) -> NetworkCost:
        """Return what the network costs at ``bits``."""
        return cost.measure(self.graph, bits)

    def quantized(self, bits: Mapping[str, LayerBits]) -> IntGraph:
        """Return the integer graph of the network at ``bits``; other runtimes need output codes."""
        return quantize_network(self.graph, bits, self.statistics, QuantizeOptions(output_bits=8))
