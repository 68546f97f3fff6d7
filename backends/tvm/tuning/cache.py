"""Measured times of kernels in a file, which may be damaged, missing, or impossible to write.

    {"kernels": 9, "results": {KEY: {NAME: MILLISECONDS, ...}, ...}}

Whatever is wrong with it costs a warning and another measurement, never a compile. A file of other
kernels is taken for empty.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from gmpq.errors import JsonError, OutputError
from gmpq.files import atomic
from gmpq.files.strict_json import Parsed, load, number, require, unique
from gmpq.files.untrusted import decode, read_bytes

MOST_BYTES = 64 << 20

Times: TypeAlias = dict[str, float]  # milliseconds by the name of a kernel
Warn: TypeAlias = Callable[[str], object]


def read(path: Path | None, version: int, warn: Warn) -> dict[str, Times]:
    """Return the times in ``path`` by key; none where no file of kernels ``version`` is usable."""
    if path is None:
        return {}
    try:
        content = read_bytes(path, _UnreadableError, MOST_BYTES)
    except _UnreadableError as error:
        if _is_there(path):
            warn(f"{error}; kernels are chosen without it")
        return {}
    try:
        return _results(load(decode("it", content, JsonError)), version)
    except JsonError as error:
        warn(f"{path}: is damaged ({error}): {_set_aside(path)}")
        return {}


def remember(
    path: Path | None, version: int, found: Mapping[str, Mapping[str, float]], warn: Warn
) -> None:
    """Add what was found of kernels ``version`` to the results in ``path``, if any."""
    if path is None:
        return
    results = read(path, version, warn) | {key: dict(times) for key, times in found.items()}
    try:
        _write(path, {"kernels": version, "results": results})
    except OutputError as error:
        warn(f"{error}: measured times are not remembered")


class _UnreadableError(JsonError):
    """There is no file to read."""


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _set_aside(path: Path) -> str:
    aside = path.with_name(f"{path.name}.damaged")
    try:
        path.replace(aside)
    except OSError as error:
        return f"ignored, and cannot be moved away ({error.strerror})"
    return f"moved to {aside.name}"


def _results(content: Parsed, version: int) -> dict[str, Times]:
    fields = unique("it", content)
    require("it", fields, "kernels", "results")
    if fields["kernels"] != version:
        return {}
    results = unique("results", fields["results"])
    return {key: _times(f"results.{key}", value) for key, value in results.items()}


def _times(place: str, value: Parsed) -> Times:
    times = {name: number(f"{place}.{name}", time) for name, time in unique(place, value).items()}
    if not times or min(times.values()) < 0:
        raise JsonError(f"{place}: must be times of at least 0")
    return times


def _write(path: Path, content: Mapping[str, object]) -> None:
    """Replace ``path`` by ``content`` in one step, so that a reader never sees half a file."""
    with suppress(OSError):  # the write reports it
        path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=1, sort_keys=True)
    atomic.write_text(path, text + "\n")
