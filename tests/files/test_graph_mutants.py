"""Damaged graph files are refused with a reason, or hold a legal graph that runs."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from gmpq import spec
from gmpq.backends import reference
from gmpq.errors import OutputError
from gmpq.files import saved_graph
from gmpq.ir import Conv2d, Dequantize, GlobalAvgPool, Graph, IntGraph, QParams, Quantize, Value
from tests.support.mutants import mutant
from tests.support.strategies import random_graph

MUTANTS = 60  # of each graph
SMALL = 1 << 20  # elements of a graph that is run


def parts(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the header and the arrays of a saved graph."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])["__metadata__"][saved_graph.HEADER]
    return json.loads(header), load_arrays(content)


def write(path: Path, header: Any, arrays: dict[str, np.ndarray]) -> None:
    text = header if isinstance(header, str) else json.dumps(header)
    path.write_bytes(save_arrays(arrays, {saved_graph.HEADER: text}))


def check(path: Path) -> str:
    """Return why the file is refused; run the graph if it is not."""
    try:
        graph = saved_graph.load(path)
    except OutputError as error:
        return str(error)
    spec.check(graph)
    if sum(np.prod(value.shape) for value in graph.values.values()) < SMALL:
        inputs = {name: np.zeros(graph.values[name].shape, np.float32) for name in graph.inputs}
        reference.run(graph, inputs)
    return ""


@pytest.mark.parametrize("seed", range(12))
def test_mutated_headers(seed: int, tmp_path: Path) -> None:
    path, rng = tmp_path / "graph.safetensors", random.Random(seed)
    saved_graph.save(random_graph(seed), path)
    header, arrays = parts(path)
    refused = 0
    for _ in range(MUTANTS):
        try:
            write(path, mutant(header, rng), arrays)
        except UnicodeEncodeError:
            continue
        reason = check(path)
        assert "\n" not in reason
        refused += bool(reason)
    assert refused > MUTANTS / 2


def changed(array: np.ndarray, rng: random.Random) -> np.ndarray:
    match rng.randrange(5):
        case 0:
            return array.astype(rng.choice((np.int8, np.float32, np.int64, np.float16, np.bool_)))
        case 1:
            return array[:-1].copy()
        case 2:
            return array[None].copy()
        case 3:
            return np.full_like(array, rng.choice((0, 1, 127)))
        case _:
            return array.ravel().copy()


@pytest.mark.parametrize("seed", range(12))
def test_mutated_arrays(seed: int, tmp_path: Path) -> None:
    path, rng = tmp_path / "graph.safetensors", random.Random(seed)
    saved_graph.save(random_graph(seed, 5), path)
    header, arrays = parts(path)
    for name in arrays:
        write(path, header, {**arrays, name: changed(arrays[name], rng)})
        assert "\n" not in check(path)
        write(path, header, {key: array for key, array in arrays.items() if key != name})
        assert "missing" in check(path)


@pytest.mark.parametrize(
    "header", ["", "null", "[]", "{}", "[" * 100_000, '{"format": 1}', "1" * 5000, "NaN"]
)
def test_headers_that_are_none(header: str, tmp_path: Path) -> None:
    path = tmp_path / "graph.safetensors"
    write(path, header, {})
    assert check(path).startswith(f"{path}: not a saved graph: ")


# --- what types say ------------------------------------------------------------------------------


def broken(graph: IntGraph, **change: Any) -> IntGraph:
    """Return ``graph`` with a change in the parameters of a value of codes."""
    name = next(name for name, value in graph.values.items() if value.q is not None)
    q = replace(graph.values[name].q, **change)  # type: ignore[type-var]
    return replace(graph, values={**graph.values, name: replace(graph.values[name], q=q)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"zero_point": 0.5}, "zero_point: 0.5 is no int", id="half-a-code"),
        pytest.param({"zero_point": True}, "zero_point: True is no int", id="true"),
        pytest.param(
            {"zero_point": np.int64(3)}, r"zero_point: np.int64\(3\) is no int", id="numpy"
        ),
        pytest.param({"bits": 8.0}, "bits: 8.0 is no int", id="bits"),
        pytest.param({"high": 2**31}, "high: 2147483648 is no int", id="beyond-int32"),
        pytest.param({"scale": np.float64(1)}, r"scale: np.float64\(1.0\) is no float", id="scale"),
        pytest.param({"scale": float("nan")}, "scale: nan is no float", id="nan"),
        pytest.param({"scale": "1"}, "scale: '1' is no float", id="text"),
    ],
)
def test_codes_of_other_types(change: dict[str, Any], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        spec.check(broken(random_graph(0), **change))


@pytest.mark.parametrize("shape", [(True, 3), (1.0, 3), [1, 3], (np.int64(1), 3), ("1", 3)])
def test_shapes_of_other_types(shape: Any) -> None:
    graph = random_graph(0)
    name = graph.inputs[0]
    with pytest.raises(AssertionError, match="is no"):
        spec.check(replace(graph, values={**graph.values, name: Value(name, shape)}))


def test_nodes_of_other_types() -> None:
    graph = random_graph(0)
    with pytest.raises(AssertionError, match="str is no node"):
        spec.check(replace(graph, nodes=(*graph.nodes, "conv")))  # type: ignore[arg-type]
    layers = (
        (g, node)
        for g in map(random_graph, range(100))
        for node in g.nodes
        if isinstance(node, Conv2d)
    )
    graph, conv = next(layers)
    for bad in (replace(conv, groups=True), replace(conv, inputs=[*conv.inputs])):
        nodes = tuple(bad if node is conv else node for node in graph.nodes)
        with pytest.raises(AssertionError, match="is no"):
            spec.check(replace(graph, nodes=nodes))


@pytest.mark.parametrize(("side", "fits"), [(2900, True), (3000, False)])
def test_sums_of_means_fit_int32(side: int, fits: bool) -> None:
    q, image = QParams.full(0.05, 0, 8), (1, 1, side, side)
    values = (Value("x", image), Value("q", image, q), Value("m", (1, 1, 1, 1), q))
    nodes = (
        Quantize("q", ("x",), "q"),
        GlobalAvgPool("m", ("q",), "m"),
        Dequantize("y", ("m",), "y"),
    )
    small = Graph(
        "mean",
        ("x",),
        ("y",),
        {value.name: value for value in (*values, Value("y", (1, 1, 1, 1)))},
        nodes,
    )
    if fits:
        spec.check(small)
    else:
        with pytest.raises(AssertionError, match="the sum of 9000000 codes fits int32"):
            spec.check(small)
