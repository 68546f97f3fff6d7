from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from gmpq.accuracy import loss, report
from gmpq.accuracy.loss import Loss, NodeLoss, OutputLoss
from gmpq.errors import OutputError
from gmpq.files import typed_json
from gmpq.policy import LayerBits

FAR = OutputLoss("logits", 12.34, 0.9711, 0.875)
LOSS = Loss(
    images=32,
    alone_images=4,
    clipped=0.0,
    outputs=(FAR,),
    nodes=(
        NodeLoss("input", "input", 200.0, 200.0, 200.0),
        NodeLoss("stem", "relu", 40.0, 41.0, 35.5),
        NodeLoss("body", "body", 9.0, 20.0, 15.25),
        NodeLoss("head", "logits", 12.34, 30.0, 31.0),
    ),
)
BITS = {"stem": LayerBits(8, 8), "body": LayerBits(3, 4), "head": LayerBits(8, 8)}


def test_the_worst_come_first_and_what_is_exact_not_at_all() -> None:
    assert [node.node for node in LOSS.worst(9)] == ["body", "head", "stem"]
    unknown = tuple(replace(node, output_db=None) for node in LOSS.nodes)
    assert [node.node for node in replace(LOSS, nodes=unknown).worst(2)] == ["body", "head"]


def test_json_keeps_everything(tmp_path: Path) -> None:
    path = tmp_path / "loss.json"
    path.write_text(json.dumps(loss.to_json(LOSS)), "utf-8")
    assert typed_json.read(path, Loss, OutputError) == LOSS


def test_a_summary_names_the_worst_three() -> None:
    *_, line, worst = report.summary(LOSS).splitlines()
    assert line.split() == ["logits", "12.3", "0.9711", "87.5%"]
    assert worst == (
        "worst where all else is float, at the outputs: body 15.2 dB, head 31.0 dB, stem 35.5 dB"
    )


def test_a_table_has_a_line_per_node() -> None:
    rows = [line.split() for line in report.to_table(LOSS).splitlines()]
    assert ["body", "body", "9.0", "20.0", "15.2"] in rows
    assert len(rows) == 3 + 1 + 2 + len(LOSS.nodes)


def test_a_warning_names_output_culprit_and_cure() -> None:
    assert report.distance_warnings(LOSS, BITS) == (
        "output 'logits': 12.3 dB from the float network (below 20 dB) and the same class for "
        "87.5% (below 90%): 'body' (w3a4) hurts most, 15.2 dB alone: give it more bits, try "
        "another --observer or more images, or train it with gmpq finetune",
    )


@pytest.mark.parametrize(
    ("output", "part"),
    [
        pytest.param(replace(FAR, agreement=0.95), "12.3 dB from the float network", id="noise"),
        pytest.param(replace(FAR, agreement=None), "12.3 dB from the float network", id="image"),
        pytest.param(replace(FAR, sqnr_db=25.0), "the same class for 87.5%", id="classes"),
        pytest.param(replace(FAR, sqnr_db=20.0, agreement=0.9), None, id="near"),
    ],
)
def test_either_measure_warns(output: OutputLoss, part: str | None) -> None:
    lines = report.distance_warnings(replace(LOSS, outputs=(output,)), BITS)
    assert len(lines) == (part is not None)
    assert all(f"output 'logits': {part}" in line and " and the" not in line for line in lines)


def test_eight_bits_cannot_be_more() -> None:
    (line,) = report.distance_warnings(LOSS, dict.fromkeys(BITS, LayerBits(8, 8)))
    assert "more bits" not in line


def test_clipped_inputs_are_told() -> None:
    assert report.range_warnings(0.01) == ()
    (line,) = report.range_warnings(0.123)
    assert line.startswith("12.3% of the input's numbers lie outside the range of its codes")
