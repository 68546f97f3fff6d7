from __future__ import annotations

import json

from versus.rows import Row, details, fastest, ratio, summary, to_json, to_markdown, to_text


def row(tool: str, median_ms: float, bits: str = "w4a4", variant: str = "") -> Row:
    mine = tool == "gmpq"
    return Row(
        network="resnet18",
        bits=bits,
        threads=1,
        tool=tool,
        variant=bits if mine else variant,
        median_ms=median_ms,
        min_ms=median_ms / 2,
        p90_ms=median_ms * 2,
        runs=30,
        processor_ms=median_ms,
        cores=1.0,
        quiet=0.75,
        all_ms=median_ms * 1.5,
        exact=True if mine else None,
        bops=34_700_000_000 if mine else None,
        published_bops=29.0e9 if mine else None,
    )


ROWS = [
    row("gmpq", 2.0),
    row("ort-int8", 8.0, variant="quantize_static"),
    row("ort-int8", 6.0, variant="gmpq's QDQ file"),
    row("openvino-int8", 3.0, variant="NNCF"),
    row("openvino-fp32", 1.0),
]


def test_the_fastest_variant_of_a_tool_counts() -> None:
    best = fastest(ROWS)
    assert [r.tool for r in best] == ["gmpq", "ort-int8", "openvino-int8", "openvino-fp32"]
    assert best[1].variant == "gmpq's QDQ file"


def test_the_ratio_is_of_the_best_int8_peer() -> None:
    assert ratio(ROWS) == 1.5  # float does not count, however fast


def test_there_is_no_ratio_without_peers_or_without_gmpq() -> None:
    assert ratio(ROWS[:1]) is None
    assert ratio(ROWS[1:]) is None


def test_the_summary_has_a_line_per_policy() -> None:
    other = [row("gmpq", 4.0, "w8a8"), row("openvino-int8", 3.0, "w8a8")]
    text = to_text(*summary([*fastest(ROWS), *other]))
    names, _, first, second = text.splitlines()
    assert names.split()[:5] == ["network", "threads", "bits", "BOPs", "published"]
    numbers = ["2.000", "6.000", "3.000", "1.000", "1.50", "yes"]
    assert first.split() == ["resnet18", "1", "w4a4", "34.7", "G", "29.0", "G", *numbers]
    assert second.split()[-6:] == ["4.000", "-", "3.000", "-", "0.75", "yes"]


def test_details_name_a_peer_once_for_all_policies() -> None:
    baselines = [row("openvino-int8", 3.0, bits, "NNCF") for bits in ("w8a8", "w4a4")]
    _, lines = details([row("gmpq", 1.0, "w8a8"), row("gmpq", 1.0, "w4a4"), *baselines])
    assert [line[:2] for line in lines] == [
        ("gmpq", "w8a8"),
        ("gmpq", "w4a4"),
        ("openvino-int8", "NNCF"),
    ]


def test_rows_are_json() -> None:
    (found,) = json.loads(json.dumps(to_json(ROWS[:1]), allow_nan=False))
    keys = ("network", "bits", "threads", "tool", "median_ms", "min_ms", "p90_ms", "exact")
    assert {key: found[key] for key in keys} == {
        "network": "resnet18",
        "bits": "w4a4",
        "threads": 1,
        "tool": "gmpq",
        "median_ms": 2.0,
        "min_ms": 1.0,
        "p90_ms": 4.0,
        "exact": True,
    }
    assert to_json(ROWS[3:4])[0]["exact"] is None


def test_markdown_has_a_rule_under_the_header() -> None:
    expected = "| a | b |\n| --- | ---: |\n| 1 | 2 |"
    assert to_markdown(("a", "b"), [("1", "2")]) == expected
