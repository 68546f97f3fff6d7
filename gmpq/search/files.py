"""JSON files of the search, read strictly and written all or nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from gmpq.errors import JsonError, SearchError
from gmpq.files import atomic
from gmpq.files.strict_json import JSON, Parsed, load, members, require, show
from gmpq.files.untrusted import read_text


def read_members(path: Path, version: int, names: tuple[str, ...]) -> dict[str, Parsed]:
    """Return the members of the file's object; ``version`` and ``layers`` must be there.

    Raises:
        SearchError: the file is missing, not JSON, of another version, or has other members.
    """
    text = read_text(path, SearchError)
    try:
        fields = members("file", load(text), names)
        require("file", fields, "version", "layers")
    except JsonError as error:
        raise SearchError(f"{path}: {error}") from error
    if fields["version"] != version:
        raise SearchError(
            f"{path}: version: got {show(fields['version'])}, this gmpq reads version {version}"
        )
    return fields


def write_json(path: Path, content: Mapping[str, JSON], layers: Mapping[str, JSON]) -> None:
    """Write ``content`` and its ``layers`` to ``path``, one layer per line, all or nothing.

    Raises:
        OutputError: the file cannot be written.
    """
    atomic.write_text(path, _to_text(content, layers))


def _to_text(content: Mapping[str, JSON], layers: Mapping[str, JSON]) -> str:
    fields = [f" {_member(key, value)}" for key, value in content.items()]
    rows = ",\n".join(f"  {_member(name, value)}" for name, value in layers.items())
    return "{\n" + ",\n".join([*fields, ' "layers": {\n' + rows + "\n }"]) + "\n}\n"


def _member(key: str, value: JSON) -> str:
    return f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}"
