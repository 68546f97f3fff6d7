"""A cache that is damaged, or cannot be read or written, costs a warning and no more."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gmpq.backends.tvm.tuning.cache import read, remember

VERSION = 7
GOOD = {"kernels": VERSION, "results": {"a": {"direct 8": 0.5, "winograd": 0.25}}}


def entry(text: str) -> str:
    return f'{{"kernels": {VERSION}, "results": {{"a": {text}}}}}'


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "kernels.json"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        pytest.param(b"", "not JSON", id="empty"),
        pytest.param(b"{", "not JSON", id="half"),
        pytest.param(b"\xff\xfe", "byte 0 is not UTF-8", id="not-utf-8"),
        pytest.param(b"[]", "must be an object", id="list"),
        pytest.param(b"null", "must be an object", id="null"),
        pytest.param(b"[" * 100_000, "nested more than", id="deep"),
        pytest.param(b"{}", '"kernels" is missing', id="no-kernels"),
        pytest.param(b'{"kernels": 7}', '"results" is missing', id="no-results"),
        pytest.param(b'{"kernels": 7, "results": []}', "results: must be an object", id="results"),
        pytest.param(b'{"kernels": 7, "results": null}', "must be an object", id="results-null"),
        pytest.param(entry("null").encode(), "results.a: must be an object", id="entry-null"),
        pytest.param(entry("{}").encode(), "must be times", id="entry-empty"),
        pytest.param(entry('{"x": null}').encode(), "x: must be a finite number", id="time-null"),
        pytest.param(entry('{"x": NaN}').encode(), "NaN is not JSON", id="time-nan"),
        pytest.param(entry('{"x": 1e999}').encode(), "must be a finite number", id="time-infinite"),
        pytest.param(entry('{"x": "1"}').encode(), "must be a finite number", id="time-text"),
        pytest.param(entry('{"x": true}').encode(), "must be a finite number", id="time-true"),
        pytest.param(entry('{"x": -1}').encode(), "at least 0", id="time-negative"),
        pytest.param(entry('{"x": 1%s}' % ("0" * 999)).encode(), "1000 digits", id="time-huge"),
    ],
)
def test_a_damaged_cache_is_set_aside(cache: Path, content: bytes, why: str) -> None:
    cache.write_bytes(content)
    told: list[str] = []
    assert read(cache, VERSION, told.append) == {}
    (warning,) = told
    assert warning.startswith(f"{cache}: is damaged (")
    assert warning.endswith("moved to kernels.json.damaged")
    assert why in warning
    assert "\n" not in warning
    assert (cache.parent / "kernels.json.damaged").read_bytes() == content
    assert names(cache.parent) == {"kernels.json.damaged"}
    remember(cache, VERSION, {"a": {"direct 8": 0.5}}, told.append)
    assert read(cache, VERSION, told.append) == {"a": {"direct 8": 0.5}}
    assert len(told) == 1


def test_results_are_added(cache: Path) -> None:
    told: list[str] = []
    cache.write_text(json.dumps(GOOD))
    remember(cache, VERSION, {"b": {"x": 1.0}}, told.append)
    assert read(cache, VERSION, told.append) == {**GOOD["results"], "b": {"x": 1.0}}
    assert names(cache.parent) == {"kernels.json"}
    assert cache.stat().st_mode & 0o777 == 0o644
    assert told == []


def test_results_of_other_kernels_are_dropped_in_silence(cache: Path) -> None:
    told: list[str] = []
    cache.write_text(json.dumps(GOOD))
    assert read(cache, VERSION + 1, told.append) == {}
    assert read(cache.parent / "none.json", VERSION, told.append) == {}
    assert read(None, VERSION, told.append) == {}
    assert told == []


def directory(cache: Path) -> Path:
    cache.mkdir()
    return cache


def fifo(cache: Path) -> Path:
    os.mkfifo(cache)
    return cache


def loop(cache: Path) -> Path:
    cache.symlink_to(cache)
    return cache


@pytest.mark.parametrize("make", [directory, fifo, loop])
def test_a_place_of_another_kind(cache: Path, make: Callable[[Path], Path]) -> None:
    told: list[str] = []
    make(cache)
    assert read(cache, VERSION, told.append) == {}
    assert told[0].startswith(f"{cache}: ")
    assert told[0].endswith("; kernels are chosen without it")
    assert names(cache.parent) == {"kernels.json"}


@pytest.mark.parametrize(
    "place", [Path("/dev/null/gmpq/kernels.json"), Path("/proc/gmpq/kernels.json")]
)
def test_a_place_that_cannot_be_written(place: Path) -> None:
    told: list[str] = []
    remember(place, VERSION, {"a": {"x": 1.0}}, told.append)
    (warning,) = told
    assert warning.startswith(f"{place}: cannot be written: ")
    assert warning.endswith("measured times are not remembered")


def test_a_directory_in_its_place_keeps_no_half_file(cache: Path) -> None:
    told: list[str] = []
    cache.mkdir()
    remember(cache, VERSION, {"a": {"x": 1.0}}, told.append)
    assert "cannot be written: Is a directory" in told[-1]
    assert names(cache.parent) == {"kernels.json"}
