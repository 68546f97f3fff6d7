"""Timing by rounds: who runs when, what is counted, and how it is written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from gmpq.artifact.conditions import Conditions
from gmpq.artifact.latency import (
    NETWORK,
    Entry,
    Measured,
    Plan,
    Row,
    interleave,
    measure,
    to_json,
    to_layer_table,
    to_table,
    to_text,
)
from gmpq.backends.base import Tensor, Timing

PLAN = Plan(seconds=0.0, least=4, most=4, warm_up=2)


@dataclass
class Timed:
    """A program of two steps with fixed times; the first two runs of a step are slower."""

    asked: list[int] = field(default_factory=list)
    outputs: tuple[str, ...] = ()
    emulated: bool = False

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return dict(inputs)

    def trace(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return dict(inputs)

    def time_runs(self, inputs: Mapping[str, Tensor], count: int) -> list[float]:
        return [3.0] * count

    def time_steps(
        self, inputs: Mapping[str, Tensor], count: int, flush_bytes: int = 0
    ) -> dict[str, list[float]]:
        self.asked.append(count)
        return {"conv": [9.0, 9.0] + [1.0] * (count - 2), "add": [2.0] * count}

    def close(self) -> None:
        pass


def test_programs_run_in_turn_and_warm_up_is_not_counted() -> None:
    order: list[str] = []

    def run_ms(name: str) -> float:
        order.append(name)
        return 1.0

    spent = interleave({name: partial(run_ms, name) for name in "ab"}, PLAN)
    assert order == ["a", "b"] * 6
    assert {name: len(times) for name, times in spent.items()} == {"a": 4, "b": 4}


def test_rounds_end_with_the_time_but_not_before_the_least() -> None:
    runs = {"a": lambda: 1.0}
    assert len(interleave(runs, Plan(seconds=0.0, least=3, most=100))["a"]) == 3
    assert len(interleave(runs, Plan(seconds=1e9, least=3, most=7))["a"]) == 7


def test_layers_are_measured_beside_the_network() -> None:
    program = Timed()
    entry = Entry("ort", program, {}, "precise")
    measured = measure([entry], 2, {"conv": 5, "fc": 6}, PLAN)
    rows = measured.rows
    assert [(row.layer, row.bops) for row in rows] == [(NETWORK, 11), ("conv", 5), ("add", None)]
    assert rows[1].timing.median_ms == 1.0  # without the runs that warm up
    assert len(program.asked) == 3
    assert {row.threads for row in rows} == {2}
    assert measured.on is not None
    assert (measured.on.threads, measured.on.settings) == (2, {"ort": "precise"})


def test_without_programs_there_are_no_times() -> None:
    assert measure([], 1, {"conv": 5}, PLAN) == Measured()
    assert to_json(Measured()) == {"measured_on": None, "rows": []}


def test_rows_are_written_with_all_their_keys() -> None:
    rows = [
        Row("tvm", 1, NETWORK, Timing(2.0, 1.0, 3.0, 10), 7),
        Row("onnxruntime", 1, NETWORK, Timing(1.0, 0.5, 2.0, 10), 7),
        Row("tvm", 1, "conv", Timing(0.5, 0.4, 0.6, 10), 7),
    ]
    on = Conditions(
        "Some CPU", 4, ("avx2",), "Linux 6", "2026-11-30", 1, {"gmpq": "0.1"}, {"tvm": "for it"}
    )
    written = to_json(Measured(tuple(rows), on))
    assert written["measured_on"] == {
        "processor": "Some CPU",
        "cores": 4,
        "features": ("avx2",),
        "system": "Linux 6",
        "date": "2026-11-30",
        "threads": 1,
        "versions": {"gmpq": "0.1"},
        "settings": {"tvm": "for it"},
    }
    assert to_text(Measured(tuple(rows), on)) == (
        "on Some CPU, 4 cores (avx2), Linux 6\n"
        f"2026-11-30, 1 thread, gmpq 0.1; tvm: for it\n{to_table(rows)}"
    )
    assert written["rows"][2] == {
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
