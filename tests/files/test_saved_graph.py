"""A saved integer graph computes what it computed, and a damaged file is refused."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings

from gmpq.backends import reference
from gmpq.errors import OutputError
from gmpq.files import saved_graph
from gmpq.ir import IntGraph
from tests.support.strategies import graphs, random_graph, random_input


@settings(deadline=None, max_examples=40)
@given(graphs())
def test_nothing_is_lost(graph: IntGraph) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "graph.safetensors"
        saved_graph.save(graph, path)
        loaded = saved_graph.load(path)
        first = path.read_bytes()
        saved_graph.save(loaded, path)
        assert first == path.read_bytes()
    assert (graph.name, graph.inputs, graph.outputs) == (loaded.name, loaded.inputs, loaded.outputs)
    assert graph.values == loaded.values
    assert [type(node) for node in graph.nodes] == [type(node) for node in loaded.nodes]
    inputs = random_input(graph, seed=0)
    found = reference.run(loaded, inputs)
    for name, expected in reference.run(graph, inputs).items():
        np.testing.assert_array_equal(expected, found[name])


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "graph.safetensors"
    with pytest.raises(OutputError, match="no such file"):
        saved_graph.load(path)
    saved_graph.save(random_graph(0), path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(OutputError, match="not a saved graph"):
        saved_graph.load(path)


def test_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "graph.safetensors"
    monkeypatch.setattr(saved_graph, "FORMAT", 0)
    saved_graph.save(random_graph(0), path)
    monkeypatch.undo()
    with pytest.raises(OutputError, match="format 0 is not 1: compile or finetune again"):
        saved_graph.load(path)
