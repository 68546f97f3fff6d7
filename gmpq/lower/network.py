"""From a PyTorch module to the float graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from torch import nn

from gmpq.errors import LoweringError
from gmpq.ir import FloatConv2d, FloatGraph, FloatLinear, Shape, Softmax
from gmpq.lower.outputs import outputs_of
from gmpq.lower.reader import read
from gmpq.lower.trace import trace
from gmpq.models.modules import check_module
from gmpq.models.weights import require_finite
from gmpq.passes.dead_code import drop_dead_code
from gmpq.passes.fold_batch_norm import Layer, fold_batch_norms
from gmpq.passes.fold_pad import fold_pad
from gmpq.passes.fold_reshape import fold_reshape
from gmpq.passes.name_outputs import name_outputs

Pass: TypeAlias = Callable[[FloatGraph], FloatGraph]

BEFORE_NORMS: tuple[Pass, ...] = (
    drop_dead_code,  # a reader that is dead must not keep a batch norm from folding
)
AFTER_NORMS: tuple[Pass, ...] = (
    fold_reshape,  # removes the reshapes around a batch norm of vectors, which folding sees through
    fold_pad,
    drop_dead_code,
)


@dataclass(frozen=True, slots=True, eq=False)
class Trainable:
    """A lowered network, and its layers as they are without the batch norms that they absorb."""

    graph: FloatGraph  # what ``lower`` returns
    layers: Mapping[str, Layer]  # by name; only weight and bias are to be read
    norms: Mapping[str, tuple[FloatConv2d, ...]]  # by layer, in the order in which they apply


def lower(module: nn.Module, shape: Shape, name: str) -> FloatGraph:
    """Return what ``module`` computes on one float32 input of ``shape``, as a graph.

    The module is traced in evaluation mode and is left as it was; the graph holds copies of its
    weights, with batch norms folded. A layer is named by the path of its module; the second call
    of one module is ``path:2``. ``gmpq.lower.outputs`` says how outputs are named; no two are one
    value.

    Args:
        module: a network with one input, and outputs in dicts, tuples and lists.
        shape: the input's shape, [N, C, H, W] or [N, F].
        name: the graph's name.

    Raises:
        LoweringError: an operator or argument is not supported, or tracing fails.
        WeightsError: a weight is not finite.
    """
    return lower_trainable(module, shape, name).graph


def lower_trainable(module: nn.Module, shape: Shape, name: str) -> Trainable:
    """Return what ``lower`` returns, and what its folding of batch norms has taken apart.

    Raises:
        LoweringError: an operator or argument is not supported, or tracing fails.
        WeightsError: a weight is not finite.
    """
    check_module(module)
    require_finite(dict((*module.named_parameters(), *module.named_buffers())))
    program = trace(module, shape)
    graph = _rewrite(read(program, shape, name), BEFORE_NORMS)
    folded = fold_batch_norms(graph)
    names = [output.name for output in outputs_of(program)]
    found = name_outputs(_rewrite(folded.graph, AFTER_NORMS), names)
    _check_shapes(found)
    _check_softmax(found)
    layers = {n.name: n for n in graph.nodes if isinstance(n, FloatConv2d | FloatLinear)}
    return Trainable(found, layers, folded.norms)


def _rewrite(graph: FloatGraph, passes: tuple[Pass, ...]) -> FloatGraph:
    for rewrite in passes:
        graph = rewrite(graph)
    return graph


def _check_shapes(graph: FloatGraph) -> None:
    for node in graph.nodes:
        shape = graph.values[node.output].shape
        if len(shape) not in (2, 4):
            raise LoweringError(
                f"{node.name}: has an output of shape {shape}: "
                "only images [N, C, H, W] and vectors [N, F] are supported"
            )


def _check_softmax(graph: FloatGraph) -> None:
    for node in graph.nodes:
        match node:
            case Softmax() if graph.consumers(node.output):
                raise LoweringError(
                    f"{node.name}: softmax is only supported as an output of the network"
                )
