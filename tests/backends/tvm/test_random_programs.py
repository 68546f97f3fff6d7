"""Compiled programs against the reference: every quantized tensor, on every target that runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from gmpq.backends import reference
from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.target import Target, find
from gmpq.ir import IntGraph, Softmax
from gmpq.runtime import Network
from tests.support.single_layers import BASELINE
from tests.support.strategies import graphs, random_graph, random_input

TARGETS = (find("native"), find("x86-64-v4-vnni"), find("x86-64-v3"), BASELINE)
here = [pytest.param(t, id=f"{t.name}-as-{i}") for i, t in enumerate(TARGETS) if t.runs_here()]


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("program")


def compiled(graph: IntGraph, target: Target, folder: Path) -> Network:
    return Network(folder, build(graph, target, folder).program)


def differences(graph: IntGraph, network: Network, seed: int) -> Iterator[str]:
    """Yield the values whose codes differ from the reference."""
    inputs = random_input(graph, seed)
    expected = reference.run(graph, inputs)
    rounded = any(isinstance(node, Softmax) for node in graph.nodes)
    for name, found in network.trace(*(inputs[name] for name in graph.inputs)):
        if found.dtype == np.float32 and rounded:
            if not np.allclose(expected[name], found, rtol=1e-5, atol=1e-6):
                yield name
        elif not np.array_equal(expected[name], found):
            yield name


@pytest.mark.parametrize("target", here)
@pytest.mark.parametrize("seed", range(20))
def test_every_value_equals_the_reference(target: Target, seed: int, folder: Path) -> None:
    graph = random_graph(seed)
    assert list(differences(graph, compiled(graph, target, folder), seed)) == []


@given(graphs())
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_graph_equals_the_reference(
    tmp_path_factory: pytest.TempPathFactory, graph: IntGraph
) -> None:
    network = compiled(graph, find("native"), tmp_path_factory.mktemp("any"))
    assert list(differences(graph, network, 0)) == []


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_threads_do_not_change_a_code(threads: int, folder: Path) -> None:
    graph = random_graph(11)
    network = compiled(graph, find("native"), folder)
    network.set_threads(threads)
    try:
        for seed in range(20):
            assert list(differences(graph, network, seed)) == []
    finally:
        network.set_threads(1)


def test_whole_runs_equal_single_steps(folder: Path) -> None:
    graph = random_graph(4)
    network = compiled(graph, find("native"), folder)
    inputs = [random_input(graph, 0)[name] for name in graph.inputs]
    traced, outputs = dict(network.trace(*inputs)), network.run(*inputs)
    several = outputs if isinstance(outputs, tuple) else (outputs,)
    for name, found in zip(graph.outputs, several, strict=True):
        np.testing.assert_array_equal(traced[name], found)
