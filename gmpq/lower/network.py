"""From a PyTorch module to the float graph."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from gmpq.errors import LoweringError
from gmpq.ir import FloatGraph, Shape, Softmax
from gmpq.lower.reader import read
from gmpq.lower.trace import trace
from gmpq.models.weights import require_finite
from gmpq.passes.dead_code import drop_dead_code
from gmpq.passes.fold_batch_norm import fold_batch_norm
from gmpq.passes.fold_pad import fold_pad
from gmpq.passes.fold_reshape import fold_reshape

PASSES: tuple[Callable[[FloatGraph], FloatGraph], ...] = (
    drop_dead_code,  # a reader that is dead must not keep a batch norm from folding
    fold_batch_norm,  # sees through the reshapes around a batch norm of vectors
    fold_reshape,  # removes them
    fold_pad,
    drop_dead_code,
)


def lower(module: nn.Module, shape: Shape, name: str) -> FloatGraph:
    """Return what ``module`` computes on one float32 input of ``shape``, as a graph.

    The module is traced in evaluation mode and is left as it was; the graph holds copies of its
    weights, with batch norms folded. A layer is named by the path of its module; the second call
    of one module is ``path:2``.

    Args:
        module: a network with one input and one or more outputs.
        shape: the input's shape, [N, C, H, W] or [N, F].
        name: the graph's name.

    Raises:
        LoweringError: an operator or argument has no integer meaning, or tracing fails.
        WeightsError: a weight is not finite.
    """
    require_finite(module.state_dict(keep_vars=True))
    graph = read(trace(module, shape), shape, name)
    for rewrite in PASSES:
        graph = rewrite(graph)
    _check_shapes(graph)
    _check_softmax(graph)
    return graph


def _check_shapes(graph: FloatGraph) -> None:
    for node in graph.nodes:
        shape = graph.values[node.output].shape
        if len(shape) not in (2, 4):
            raise LoweringError(
                f"{node.name}: has an output of shape {shape}: "
                "only images [N, C, H, W] and vectors [N, F] have an integer meaning"
            )


def _check_softmax(graph: FloatGraph) -> None:
    for node in graph.nodes:
        match node:
            case Softmax() if graph.consumers(node.output):
                raise LoweringError(
                    f"{node.name}: softmax is only supported as an output of the network"
                )
