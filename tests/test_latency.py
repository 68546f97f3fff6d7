"""Timing by rounds: who runs when, what is counted, and how it is written down."""

from __future__ import annotations

from gmpq.backends.base import Timing
from gmpq.latency import (
    NETWORK,
    Contender,
    Plan,
    Row,
    interleave,
    measure,
    to_json,
    to_layer_table,
    to_table,
)

PLAN = Plan(seconds=0.0, least=4, most=4, warm_up=2)


def test_programs_run_in_turn_and_warm_up_is_not_counted() -> None:
    order: list[str] = []
    runs = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    spent = interleave(runs, PLAN)
    assert order == ["a", "b"] * 6
    assert {name: len(times) for name, times in spent.items()} == {"a": 4, "b": 4}


def test_rounds_end_with_the_time_but_not_before_the_least() -> None:
    runs = {"a": lambda: None}
    assert len(interleave(runs, Plan(seconds=0.0, least=3, most=100))["a"]) == 3
    assert len(interleave(runs, Plan(seconds=1e9, least=3, most=7))["a"]) == 7


def test_layers_are_measured_beside_the_network() -> None:
    asked: list[int] = []

    def layers(runs: int) -> dict[str, list[float]]:
        asked.append(runs)
        return {"conv": [9.0, 9.0] + [1.0] * (runs - 2), "add": [2.0] * runs}

    rows = measure([Contender("ort", lambda: None, layers)], 2, {"conv": 5, "fc": 6}, PLAN)
    assert [(row.layer, row.bops) for row in rows] == [(NETWORK, 11), ("conv", 5), ("add", None)]
    assert rows[1].timing.median_ms == 1.0  # without the runs that warm up
    assert len(asked) == 3
    assert {row.threads for row in rows} == {2}


def test_rows_are_written_with_all_their_keys() -> None:
    rows = [
        Row("tvm", 1, NETWORK, Timing(2.0, 1.0, 3.0, 10), 7),
        Row("onnxruntime", 1, NETWORK, Timing(1.0, 0.5, 2.0, 10), 7),
        Row("tvm", 1, "conv", Timing(0.5, 0.4, 0.6, 10), 7),
    ]
    assert to_json(rows)[2] == {
        "backend": "tvm",
        "threads": 1,
        "layer": "conv",
        "median_ms": 0.5,
        "min_ms": 0.4,
        "p90_ms": 0.6,
        "runs": 10,
        "bops": 7,
    }
    networks = to_table(rows).splitlines()
    assert networks[2].split() == ["onnxruntime", "1", "1.000", "0.500", "2.000", "10"]
    assert to_layer_table(rows).splitlines()[2].split() == ["conv", "7", "0.5000", "-"]
