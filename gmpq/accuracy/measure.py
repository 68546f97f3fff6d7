"""The integer network compared with the float one on the same images, value by value.

A node alone gets the float network's values as codes, at the bits that it reads; what it makes of
them then takes the value's place in the float network, which shows what it alone does to the
outputs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add

import torch

from gmpq.accuracy.loss import Loss, NodeLoss, OutputLoss
from gmpq.accuracy.metrics import Energy, clipped_share, cosines, has_classes, largest
from gmpq.backends.torch_codes import compute
from gmpq.backends.torch_float import rerun, run_float
from gmpq.calib.collect import check_batch
from gmpq.inputs.images import Images
from gmpq.ir import (
    Concat,
    Dequantize,
    FloatGraph,
    IntGraph,
    MaxPool,
    Node,
    Pad,
    QParams,
    Quantize,
    Requantize,
    Reshape,
    Softmax,
    Upsample,
)

IMAGES, LEAST_IMAGES = 32, 2
MOST_MACS = 128_000_000_000  # of the float network on these images: 32 images of ResNet50
CHUNK = 4
MOST_ALONE_MACS = 600_000_000_000  # of the runs of the float network with one node quantized
MOST_ELEMENTS = 1 << 27  # of both networks' values, that are held at a time; one image is the least

Tensors = Mapping[str, torch.Tensor]

# A layer that reads a narrow copy answers for its noise; the others only move codes.
_SILENT = (Requantize, Dequantize, Concat, MaxPool, Pad, Reshape, Upsample, Softmax)
_CODES = re.compile(r"\.(codes|a[1-8])$")  # what gmpq.passes.quantize adds to a value's name


@dataclass(frozen=True, slots=True)
class Extent:
    """How many images are looked at."""

    images: int
    alone_images: int  # of the first chunk, with one node quantized at a time; 0 takes too long
    chunk: int  # images at a time

    @classmethod
    def of(cls, graph: FloatGraph, quantized: IntGraph, macs: int, images: int) -> Extent:
        """Return what a network of ``macs`` per image affords, of ``images`` that there are."""
        affordable = max(LEAST_IMAGES, MOST_MACS // max(macs, 1))
        reruns = max(1, macs * len(_noisy(quantized)) // 2)  # half the network each, on average
        values = [*graph.values.values(), *quantized.values.values()]
        elements = sum(math.prod(value.shape[1:]) for value in values)
        count = min(images, IMAGES, affordable)
        chunk = min(CHUNK, max(1, MOST_ELEMENTS // elements))
        return cls(count, min(count, chunk, MOST_ALONE_MACS // reruns), chunk)


def measure(
    graph: FloatGraph,
    quantized: IntGraph,
    images: Images,
    extent: Extent,
    progress: Callable[[int], object],
) -> Loss:
    """Return what ``quantized`` loses against ``graph`` on some of ``images``, evenly spread.

    Args:
        graph: the network in real numbers, with one input.
        quantized: the same in codes, with the names that ``gmpq.passes.quantize`` gives to values.
        images: at least the number that ``extent`` wants.
        extent: how many of them.
        progress: called after each chunk with its number of images.

    Raises:
        CalibrationError: an image cannot be read or does not fit.
    """
    found = list[_Found]()
    for number, pixels in enumerate(images.spread(extent.images).batches(extent.chunk)):
        batch = torch.from_numpy(pixels)
        check_batch(batch, graph.values[graph.inputs[0]].shape, number)
        with torch.inference_mode():
            run = _Run.on(graph, quantized, batch)
            found.append(run.found(None if found else extent.alone_images))
        progress(len(batch))
    return _loss(graph, quantized, reduce(add, found), extent)


def _loss(graph: FloatGraph, quantized: IntGraph, total: _Found, extent: Extent) -> Loss:
    """Return the loss by the sums over all images."""
    seen = extent.images
    nodes = [(node, _origin(graph, node.output)) for node in _noisy(quantized)]
    outputs = zip(graph.outputs, total.outputs, strict=True)
    return Loss(
        images=seen,
        alone_images=extent.alone_images,
        clipped=_rounded(total.clipped / seen, 6),
        outputs=tuple(sums.loss(name, seen) for name, sums in outputs),
        nodes=tuple(
            total.nodes[node.name].loss(value if isinstance(node, Quantize) else node.name, value)
            for node, value in nodes
            if node.name in total.nodes
        ),
    )


@dataclass(frozen=True, slots=True)
class _Alone:
    """What one node does to exact values: the SQNR of its value, and of the outputs."""

    value_db: float
    output_db: float | None


@dataclass(frozen=True, slots=True)
class _NodeSums:
    found: Energy
    alone: _Alone | None  # of the first images

    def __add__(self, other: _NodeSums) -> _NodeSums:
        return _NodeSums(self.found + other.found, self.alone or other.alone)

    def loss(self, node: str, value: str) -> NodeLoss:
        assert self.alone is not None, "measured on the first images"
        at_output = self.alone.output_db
        return NodeLoss(
            node,
            value,
            _rounded(self.found.sqnr_db),
            _rounded(self.alone.value_db),
            None if at_output is None else _rounded(at_output),
        )


@dataclass(frozen=True, slots=True)
class _OutputSums:
    energy: Energy
    cosine: float
    agreeing: int | None

    def __add__(self, other: _OutputSums) -> _OutputSums:
        same = None if self.agreeing is None else self.agreeing + (other.agreeing or 0)
        return _OutputSums(self.energy + other.energy, self.cosine + other.cosine, same)

    def loss(self, name: str, images: int) -> OutputLoss:
        agreement = None if self.agreeing is None else _rounded(self.agreeing / images, 4)
        decibels = _rounded(self.energy.sqnr_db)
        return OutputLoss(name, decibels, _rounded(self.cosine / images, 6), agreement)


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """Sums over some images."""

    nodes: Mapping[str, _NodeSums]
    outputs: tuple[_OutputSums, ...]
    clipped: float

    def __add__(self, other: _Found) -> _Found:
        nodes = {name: sums + other.nodes[name] for name, sums in self.nodes.items()}
        outputs = tuple(map(add, self.outputs, other.outputs))
        return _Found(nodes, outputs, self.clipped + other.clipped)


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """All values of both networks for some images."""

    graph: FloatGraph
    quantized: IntGraph
    exact: Tensors
    codes: Tensors

    @classmethod
    def on(cls, graph: FloatGraph, quantized: IntGraph, batch: torch.Tensor) -> _Run:
        inputs = {graph.inputs[0]: batch}
        codes = dict(inputs)
        for node in quantized.nodes:
            codes[node.output] = compute(quantized, node, [codes[name] for name in node.inputs])
        return cls(graph, quantized, dict(run_float(graph, inputs)), codes)

    def found(self, alone_images: int | None) -> _Found:
        """Return the sums of all images, and unless it is None what nodes do alone."""
        nodes = {
            node.name: self._node(node, alone_images)
            for node in _noisy(self.quantized)
            if all(_origin(self.graph, n) in self.exact for n in (*node.inputs, node.output))
        }
        pairs = zip(self.graph.outputs, self.quantized.outputs, strict=True)
        outputs = tuple(_output(self.exact[a], self._real(b, self.codes[b])) for a, b in pairs)
        return _Found(nodes, outputs, self._clipped() * len(self.codes[self.graph.inputs[0]]))

    def _node(self, node: Node, alone_images: int | None) -> _NodeSums:
        exact = self.exact[_origin(self.graph, node.output)]
        found = self._real(node.output, self.codes[node.output])
        alone = None if alone_images is None else self._alone(node, alone_images)
        return _NodeSums(energy_of(exact, found), alone)

    def _alone(self, node: Node, images: int) -> _Alone:
        """Return what ``node`` does to exact values; to the outputs for ``images``, if any."""
        value = _origin(self.graph, node.output)
        inputs = [self._encoded(name) for name in node.inputs]
        alone = self._real(node.output, compute(self.quantized, node, inputs))
        at_outputs = self._at_outputs(value, alone, images) if images else None
        return _Alone(energy_of(self.exact[value], alone).sqnr_db, at_outputs)

    def _encoded(self, name: str) -> torch.Tensor:
        """Return the codes, or the float32 numbers, that the integer graph has for exact ones."""
        exact = self.exact[_origin(self.graph, name)]
        if self.quantized.values[name].q is None:
            return exact
        return compute(self.quantized, Quantize("", (name,), name), [exact])

    def _real(self, name: str, held: torch.Tensor) -> torch.Tensor:
        return _real(held, self.quantized.values[name].q)

    def _at_outputs(self, value: str, alone: torch.Tensor, images: int) -> float:
        """Return the SQNR of the output that suffers most where ``value`` is ``alone``."""
        first = {name: tensor[:images] for name, tensor in self.exact.items()}
        changed = rerun(self.graph, first, {value: alone[:images]})
        names = self.graph.outputs
        return min(energy_of(first[n], changed.get(n, first[n])).sqnr_db for n in names)

    def _clipped(self) -> float:
        """Return the share of the inputs' numbers that lie outside the range of their codes."""
        shares = [
            clipped_share(self.exact[node.inputs[0]].numpy(), q)
            for node in self.quantized.nodes
            if isinstance(node, Quantize) and (q := self.quantized.values[node.output].q)
        ]
        return max(shares, default=0.0)


def _noisy(graph: IntGraph) -> list[Node]:
    return [node for node in graph.nodes if not isinstance(node, _SILENT)]


def _origin(graph: FloatGraph, value: str) -> str:
    """Return the name in ``graph`` of what ``value`` of the integer graph stands for."""
    return value if value in graph.values else _CODES.sub("", value)


def _real(held: torch.Tensor, q: QParams | None) -> torch.Tensor:
    return held if q is None else (held - q.zero_point) * q.scale


def energy_of(exact: torch.Tensor, found: torch.Tensor) -> Energy:
    """Return the energies of ``exact`` and of its difference from ``found``, both [N, ...]."""
    return Energy(_length(exact) ** 2, _length(found - exact) ** 2)


def _length(x: torch.Tensor) -> float:
    """Return the root of the sum of squares, in float64 where these leave float32's range."""
    length = float(torch.linalg.vector_norm(x))  # ten times faster
    if 1e-12 < length < 1e18:
        return length
    return float(torch.linalg.vector_norm(x, dtype=torch.float64))


def _output(exact: torch.Tensor, found: torch.Tensor) -> _OutputSums:
    expected, held = exact.numpy(), found.numpy()
    agreeing = None
    if has_classes(expected.shape):
        agreeing = int((largest(expected) == largest(held)).sum())
    return _OutputSums(energy_of(exact, found), float(cosines(expected, held).sum()), agreeing)


def _rounded(figure: float, digits: int = 2) -> float:
    """Return what is the same whatever order sums are taken in."""
    return round(figure, digits)
