"""The output that labels judge: the first of shape [N, classes], with at least two classes."""

from __future__ import annotations

import torch

from gmpq.accuracy.metrics import class_output, has_classes
from gmpq.errors import LoweringError
from gmpq.ir import FloatGraph, IntGraph
from gmpq.lower.outputs import tensors


def scores_of(graph: FloatGraph | IntGraph) -> str:
    """Return the name of the output that holds class scores.

    Raises:
        LoweringError: none does.
    """
    position = class_output(graph)
    if position is not None:
        return graph.outputs[position]
    found = ", ".join(f"'{name}' {list(graph.values[name].shape)}" for name in graph.outputs)
    raise LoweringError(
        f"{graph.name}: returns {found}: training needs a classifier's [N, classes]"
    )


def class_scores(result: object) -> torch.Tensor | None:
    """Return the class scores [N, classes] in what a module returned, or None."""
    return next((tensor for tensor in tensors(result) if has_classes(tensor.shape)), None)


def trained_scores(result: object) -> torch.Tensor:
    """Return the class scores [N, classes] in what a module returned that is known for them."""
    found = class_scores(result)
    assert found is not None, "the network has been asked for class scores before"
    return found
