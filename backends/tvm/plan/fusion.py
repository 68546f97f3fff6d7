"""What the kernel of a convolution computes besides.

    conv -> c;  add(c, r) -> y                  becomes    conv with residual r -> y
    conv -> y;  requantize(y) -> y', y'' ...    becomes    conv -> y, y', y'' ...

or both. An addition is taken over if nothing else reads c, and r is there before the convolution
runs; a copy if the target's kernels make it exactly. Where copies alone are read, y itself is not
stored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from gmpq.ir import Add, Conv2d, IntGraph, QParams, Requantize

Exact: TypeAlias = Callable[[QParams, QParams], bool]  # whether a kernel can store such a copy


@dataclass(frozen=True, slots=True)
class Fusion:
    """The nodes that a convolution takes over, and whether its own codes are stored."""

    addition: Add | None
    copies: tuple[Requantize, ...]
    stores_result: bool

    @property
    def nodes(self) -> tuple[Add | Requantize, ...]:
        """The nodes that are taken over."""
        return (*((self.addition,) if self.addition else ()), *self.copies)


def fusions(graph: IntGraph, exact: Exact) -> dict[str, Fusion]:
    """Return what convolutions take over, by the convolution's name.

    ``exact`` decides which copies the kernels of the target make as they are defined.
    """
    additions = _additions(graph)
    found = {}
    for node in graph.nodes:
        if isinstance(node, Conv2d) and node.groups == 1:
            addition = additions.get(node.name)
            value = addition.output if addition else node.output
            copies = _copies(graph, value, exact)
            if addition or copies:
                found[node.name] = Fusion(addition, copies, _is_read(graph, value, copies))
    return found


def _additions(graph: IntGraph) -> dict[str, Add]:
    """Return the addition that each convolution takes over, by the convolution's name."""
    order = {node.output: i for i, node in enumerate(graph.nodes)}
    found = {}
    for node in graph.nodes:
        if isinstance(node, Add) and order[node.inputs[0]] != order[node.inputs[1]]:
            last = graph.producer(max(node.inputs, key=order.__getitem__))
            if isinstance(last, Conv2d) and last.groups == 1 and _private(graph, last.output):
                found[last.name] = node
    return found


def _private(graph: IntGraph, value: str) -> bool:
    return len(graph.consumers(value)) == 1 and value not in graph.outputs


def _copies(graph: IntGraph, value: str, exact: Exact) -> tuple[Requantize, ...]:
    return tuple(
        node
        for node in graph.consumers(value)
        if isinstance(node, Requantize) and _is_exact(graph, node, exact)
    )


def _is_exact(graph: IntGraph, node: Requantize, exact: Exact) -> bool:
    source, target = graph.values[node.inputs[0]].q, graph.values[node.output].q
    assert source is not None, "spec.check: a requantization reads codes"
    assert target is not None, "spec.check: a requantization writes codes"
    return exact(source, target)


def _is_read(graph: IntGraph, value: str, copies: tuple[Requantize, ...]) -> bool:
    """Return whether anyone but the copies needs ``value``."""
    return not copies or value in graph.outputs or len(graph.consumers(value)) > len(copies)
