from __future__ import annotations

import json
from pathlib import Path

import pytest

from gmpq.errors import SearchError
from gmpq.policy import LayerBits
from gmpq.search.ilp import constraints, latency_table
from gmpq.search.ilp.space import Layer, Space

TIMES = {
    "first": {"w8a8": 1.0},
    "middle": {"w2a2": 0.2, "w2a4": 0.3, "w4a2": 0.4, "w4a4": 0.5},
    "last": {"w8a8": 2.0},
}


def space() -> Space:
    wide = LayerBits(8, 8)
    layers = (Layer("first", 1, 1, wide), Layer("middle", 1, 1), Layer("last", 1, 1, wide))
    return Space(layers, (2, 4), (2, 4))


def table(folder: Path, layers: object, version: object = 1) -> latency_table.LatencyTable:
    path = folder / "times.json"
    path.write_text(json.dumps({"version": version, "target": "native", "layers": layers}), "utf-8")
    return latency_table.read(path)


def test_a_table_becomes_a_constraint(tmp_path: Path) -> None:
    constraint = constraints.latency(space(), table(tmp_path, TIMES), 4.0)
    assert constraint.costs.tolist() == [[[0.2, 0.3], [0.4, 0.5]]]
    assert (constraint.fixed, constraint.limit, constraint.show(3.25)) == (3.0, 4.0, "3.25 ms")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"middle": None}, 'layer "middle" is missing', id="layer"),
        pytest.param({"last": None}, 'layer "last" is missing', id="kept-layer"),
        pytest.param({"first": {"w4a4": 1.0}}, 'layer "first" has no time at w8a8', id="kept"),
        pytest.param({"middle": {"w2a2": 0.2}}, "no time at w2a4 .it has w2a2", id="pair"),
        pytest.param({"middle": {"w2": 1}}, 'layers."middle"."w2": no pair of bits', id="key"),
        pytest.param({"middle": {"w2a2": -1}}, "must not be negative, got -1", id="negative"),
        pytest.param({"middle": {"w2a2": "x"}}, "must be a finite number", id="text"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, change: dict, message: str) -> None:
    layers = {name: times for name, times in (TIMES | change).items() if times is not None}
    with pytest.raises(SearchError, match=message) as raised:
        constraints.latency(space(), table(tmp_path, layers), 4.0)
    assert str(raised.value).startswith(str(tmp_path / "times.json"))


def test_files_that_are_no_table(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match="no such file"):
        latency_table.read(tmp_path / "none.json")
    with pytest.raises(SearchError, match="version: got 2"):
        table(tmp_path, TIMES, version=2)
