"""The schema says what the reader does."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import jsonschema
from hypothesis import given
from hypothesis import strategies as st

from gmpq.errors import PolicyError
from gmpq.policy.file import parse

SCHEMA = json.loads((resources.files("gmpq.policy") / "policy-v1.json").read_text("utf-8"))
DOCUMENTS = st.fixed_dictionaries(
    {"version": st.sampled_from((1, 2, "1", True, None)), "layers": st.just({})},
    optional={
        "default": st.fixed_dictionaries(
            {"w": st.sampled_from((0, 1, 8, 9, 2.5, "4", True))},
            optional={"a": st.sampled_from((1, 8, 9, 16, None)), "b": st.just(1)},
        ),
        "model": st.sampled_from(
            (
                {},
                {"arch": "x"},
                {"arch": 1},
                {"weights": []},
                {"oops": 1},
                {"input": {}},
                {"input": {"shape": [1, 3, 8, 8]}},
                {"input": {"shape": [1, 3, 8]}},
                {"input": {"shape": [1, 3, 8, 0]}},
                {"input": {"mean": [0.5], "std": [1]}},
                {"input": {"mean": []}},
                {"input": {"std": [0]}},
                {"input": {"resize": 256, "interpolation": "bicubic"}},
                {"input": {"resize": 0}},
                {"input": {"resize": 8193}},
                {"input": {"shape": [1, 3, 8, 65537]}},
                {"input": {"interpolation": "cubic"}},
                3,
            )
        ),
        "calibration": st.sampled_from(
            (
                ["a", "package:b/*.png"],
                {"images": ["a"], "limit": 3},
                {"images": ["a"]},
                {"images": []},
                {"limit": 3},
                {"images": ["a"], "limit": 0},
                [""],
                [3],
                "a",
            )
        ),
        "provenance": st.sampled_from(
            ({}, {"seed": 1.5}, {"seed": True}, {"details": []}, {"constraint": {"bops": 1}}, [])
        ),
        "output": st.sampled_from(
            ({"bits": 8}, {"bits": 1}, {"bits": 0}, {"bits": 9}, {"bits": True}, {}, {"bit": 8}, 8)
        ),
        "extra": st.none(),
    },
)


@given(DOCUMENTS)
def test_the_schema_accepts_what_the_reader_accepts(document: dict[str, Any]) -> None:
    valid = jsonschema.Draft202012Validator(SCHEMA).is_valid(document)
    try:
        parse(json.dumps(document))
    except PolicyError:
        assert not valid
    else:
        assert valid
