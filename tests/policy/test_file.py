"""The policy file: every wrong input has its line, and nothing is lost in a round trip."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gmpq.errors import OutputError, PolicyError
from gmpq.policy import (
    CalibrationSpec,
    InputSpec,
    LayerBits,
    ModelSpec,
    Policy,
    Provenance,
)
from gmpq.policy.file import parse, read, to_text, write

SCHEMA = json.loads((resources.files("gmpq.policy") / "policy-v1.json").read_text("utf-8"))


def layers(bits: str) -> str:
    return f'{{"version": 1, "layers": {{"layer1.0.conv1": {bits}}}}}'


def output(value: str) -> str:
    return f'{{"version": 1, "layers": {{}}, "output": {value}}}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "line 1 column 1: not JSON", id="empty"),
        pytest.param('{"version": 1,\n  "layers": {]}', "line 2 column 14: not JSON", id="broken"),
        pytest.param("[" * 100_000, "nested more than 64 levels", id="deep"),
        pytest.param(f'{{"version": {"9" * 5000}}}', "a number of 5000 digits", id="huge-number"),
        pytest.param('{"version": NaN}', "NaN is not JSON", id="nan"),
        pytest.param("3", "policy: must be an object, got 3", id="not-an-object"),
        pytest.param('{"layers": {}}', 'key "version" is missing', id="no-version"),
        pytest.param('{"version": 1}', 'key "layers" is missing', id="no-layers"),
        pytest.param('{"version": 2, "layers": {}}', "version: got 2", id="version-2"),
        pytest.param('{"version": true, "layers": {}}', "version: got true", id="version-true"),
        pytest.param('{"version": "1", "layers": {}}', 'version: got "1"', id="version-text"),
        pytest.param(
            '{"version": 1, "layer": {}, "layers": {}}', "did you mean layers", id="unknown-key"
        ),
        pytest.param(
            '{"version": 1, "layers": {}, "zzzz": 1}', "known: version, model", id="far-key"
        ),
        pytest.param(
            '{"version": 1, "layers": {}, "layers": {}}', '"layers" appears twice', id="twice"
        ),
        pytest.param(
            '{"version": 1, "layers": {"a": {"w": 1, "a": 1}, "a": {"w": 2, "a": 2}}}',
            'layers: key "a" appears twice',
            id="layer-twice",
        ),
        pytest.param(layers('{"w": 4, "w": 3, "a": 2}'), 'key "w" appears twice', id="bits-twice"),
        pytest.param(layers('{"w": 0, "a": 4}'), ".w: bits out of range, got 0", id="bits-0"),
        pytest.param(layers('{"w": 4, "a": 9}'), ".a: bits out of range, got 9", id="bits-9"),
        pytest.param(layers('{"w": -1, "a": 4}'), "out of range, got -1", id="bits-negative"),
        pytest.param(layers('{"w": 2.5, "a": 4}'), "whole number, got 2.5", id="bits-2.5"),
        pytest.param(layers('{"w": "4", "a": 4}'), "whole number, got '4'", id="bits-text"),
        pytest.param(layers('{"w": true, "a": 4}'), "whole number, got True", id="bits-true"),
        pytest.param(layers('{"w": null, "a": 4}'), "whole number, got None", id="bits-null"),
        pytest.param(layers('{"w": 4, "a": 16}'), "no target holds 16-bit", id="a16"),
        pytest.param(layers('{"w": 16, "a": 4}'), "out of range, got 16", id="w16"),
        pytest.param(layers('{"a": 4}'), 'key "w" is missing', id="w-missing"),
        pytest.param(layers('{"w": 4}'), 'key "a" is missing', id="a-missing"),
        pytest.param(layers('{"w": 4, "A": 4}'), 'unknown key "A"', id="bits-key"),
        pytest.param(layers("4"), "must be an object, got 4", id="bits-number"),
        pytest.param('{"version": 1, "layers": []}', "layers: must be an object", id="layers-list"),
        pytest.param(
            '{"version": 1, "layers": {}, "default": {"w": 9, "a": 8}}', "default.w", id="default"
        ),
        pytest.param(
            '{"version": 1, "layers": {}, "model": {"arc": "x"}}', "did you mean arch", id="model"
        ),
        pytest.param(
            '{"version": 1, "layers": {}, "model": {"arch": 3}}', "model.arch: must be text", id="t"
        ),
        pytest.param(
            '{"version": 1, "layers": {}, "model": {"input": {"shape": [3, 8, 8]}}}',
            "model.input.shape: must be [N, C, H, W]",
            id="shape",
        ),
        pytest.param(
            '{"version": 1, "layers": {}, "model": {"input": {"shape": [1, 3, 0, 8]}}}',
            "must be at least 1, got 0",
            id="shape-zero",
        ),
        pytest.param(
            '{"version": 1, "layers": {}, "model": {"input": {"shape": [1, 3, 8, 99999]}}}',
            "model.input.shape: must be at most 65536, got 99999",
            id="shape-large",
        ),
        pytest.param(
            '{"version": 1, "layers": {}, "model": {"input": {"resize": 2000000000}}}',
            "model.input.resize: must be at most 8192, got 2000000000",
            id="resize-large",
        ),
        pytest.param(
            '{"version": 1, "layers": {}, "calibration": "photographs/"}',
            'calibration: must be an object, got "photographs/"',
            id="calibration-text",
        ),
        pytest.param(
            '{"version": 1, "layers": {}, "calibration": []}',
            'calibration: names no images: list folders or arrays, as ["photographs/"]',
            id="calibration-empty",
        ),
        pytest.param(
            '{"version": 1, "layers": {}, "calibration": {"images": ["a"], "limit": 0}}',
            "calibration.limit: must be at least 1, got 0",
            id="calibration-limit",
        ),
        pytest.param(
            '{"version": 1, "layers": {}, "model": {"input": {"std": [0]}}}',
            "model.input.std: must be positive, got 0",
            id="std",
        ),
        pytest.param(
            '{"version": 1, "layers": {}, "model": {"input": {"mean": [1e400]}}}',
            "must be a finite number",
            id="mean",
        ),
        pytest.param(
            '{"version": 1, "layers": {}, "model": {"input": {"interpolation": "x"}}}',
            "use bilinear or bicubic",
            id="interpolation",
        ),
        pytest.param(
            '{"version": 1, "layers": {}, "provenance": {"constraint": {"bops": "x"}}}',
            "provenance.constraint.bops",
            id="constraint",
        ),
        pytest.param(
            '{"version": 1, "layers": {}, "provenance": {"details": {"x": [1e400]}}}',
            "provenance.details.x",
            id="details",
        ),
        pytest.param(output("8"), "output: must be an object, got 8", id="output-number"),
        pytest.param(output("{}"), 'key "bits" is missing', id="output-empty"),
        pytest.param(output('{"bits": 0}'), "output.bits: bits out of range", id="output-0"),
        pytest.param(output('{"bits": true}'), "output.bits: bits must be", id="output-true"),
        pytest.param(output('{"bit": 8}'), "did you mean bits", id="output-key"),
    ],
)
def test_wrong_text_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_errors_name_the_file(tmp_path: Path) -> None:
    missing = tmp_path / "missing.json"
    with pytest.raises(PolicyError, match=r"missing\.json: no such file"):
        read(missing)
    with pytest.raises(PolicyError, match="is a directory: give a regular file"):
        read(tmp_path)
    latin = tmp_path / "latin.json"
    latin.write_bytes(b'{"version": 1, "layers": {"\xe9": 1}}')
    with pytest.raises(PolicyError, match="byte 27 is not UTF-8"):
        read(latin)
    broken = tmp_path / "broken.json"
    broken.write_text("{", "utf-8")
    with pytest.raises(PolicyError, match=r"broken\.json: line 1 column 2: not JSON"):
        read(broken)


# --- round trip ----------------------------------------------------------------------------------

BITS = st.builds(LayerBits, w=st.integers(1, 8), a=st.integers(1, 8))
NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**20), 10**20)
PLAIN = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)
POSITIVE = st.integers(1, 4096)
STEPS = st.lists(st.floats(1e-6, 10), min_size=1, max_size=3).map(tuple)
INPUTS = st.builds(
    InputSpec,
    shape=st.none() | st.tuples(POSITIVE, POSITIVE, POSITIVE, POSITIVE),
    mean=st.none() | STEPS,
    std=st.none() | STEPS,
    resize=st.none() | POSITIVE,
    interpolation=st.none() | st.sampled_from(("bilinear", "bicubic")),
)
MAYBE_TEXT = st.none() | st.text()
POLICIES = st.builds(
    Policy,
    layers=st.dictionaries(st.text(), BITS, max_size=4),
    default=st.none() | BITS,
    output_bits=st.none() | st.integers(1, 8),
    model=st.builds(
        ModelSpec,
        arch=MAYBE_TEXT,
        weights=MAYBE_TEXT,
        input=st.none() | INPUTS,
        quantized=MAYBE_TEXT,
    ),
    calibration=st.none()
    | st.builds(
        CalibrationSpec,
        images=st.lists(st.text(min_size=1), min_size=1, max_size=3).map(tuple),
        limit=st.none() | POSITIVE,
    ),
    provenance=st.none()
    | st.builds(
        Provenance,
        method=MAYBE_TEXT,
        dataset=MAYBE_TEXT,
        constraint=st.none() | st.dictionaries(st.text(), NUMBERS, max_size=2),
        seed=st.none() | st.integers(),
        details=st.none() | st.dictionaries(st.text(), PLAIN, max_size=2),
    ),
)


@given(POLICIES)
def test_nothing_is_lost(policy: Policy) -> None:
    text = to_text(policy)
    assert policy == parse(text)
    assert list(policy.layers) == list(parse(text).layers)
    assert text == to_text(parse(text))
    jsonschema.validate(json.loads(text), SCHEMA)


def test_the_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    write(Policy(layers={}, default=LayerBits(8, 8)), path)
    write(Policy(layers={"conv": LayerBits(2, 3)}), path)
    assert read(path) == Policy(layers={"conv": LayerBits(2, 3)})
    assert [path] == list(tmp_path.iterdir())
    with pytest.raises(OutputError, match="cannot be written"):
        write(Policy(layers={}), tmp_path / "no" / "policy.json")
