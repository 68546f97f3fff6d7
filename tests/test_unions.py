"""Every member of the closed unions is in random graphs, and has a kernel family.

mypy finds the functions that do not handle a new kind of node. It does not find what builds graphs
from text, what draws them, or what may compute them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, get_args

import pytest

from gmpq.backends.tvm.kernels.cpu.families import KERNELS
from gmpq.ir import Activation, FloatNode, Function, Graph, Lookup, Node
from tests.support.float_graphs import random_float_graph
from tests.support.strategies import random_graph

MOST_SEEDS = 200  # random graphs are drawn until all kinds were seen


def drawn(graph: Callable[[int], Graph[Any]], wanted: set[type]) -> set[type]:
    """Return the kinds of nodes, and of functions in them, that random graphs hold."""
    found: set[type] = set()
    for seed in range(MOST_SEEDS):
        if wanted <= found:
            break
        for node in graph(seed).nodes:
            found.add(type(node))
            if isinstance(node, Lookup | Activation):
                found.add(type(node.function))
    return found


def test_random_integer_graphs_hold_every_kind() -> None:
    wanted = {*get_args(Node), *get_args(Function)}
    assert drawn(random_graph, wanted) == wanted


def test_random_float_graphs_hold_every_kind() -> None:
    wanted = {*get_args(FloatNode), *get_args(Function)}
    assert drawn(partial(random_float_graph, steps=8), wanted) == wanted


@pytest.mark.parametrize("kind", get_args(Node))
def test_every_kind_of_node_has_a_family(kind: type[Node]) -> None:
    assert any(kind in family.nodes for family in KERNELS)
