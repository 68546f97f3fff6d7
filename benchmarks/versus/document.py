"""Results in a document, between two comments that stay, and the machine that they are from."""

from __future__ import annotations

import platform
from pathlib import Path

import click

FEATURES = ("avx2", "avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm")


def replace_block(text: str, name: str, content: str) -> str:
    """Return ``text`` with ``content`` between the comments of ``name``, appended if missing.

    Raises:
        click.UsageError: one of the two comments is missing.
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    block = f"{begin}\n\n{content.strip()}\n\n{end}"
    if begin not in text and end not in text:
        return f"{text.rstrip()}\n\n{block}\n".lstrip()
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise click.UsageError(f"the document has no pair of {begin} and {end}: restore both")
    return before + block + after


def update(path: Path, name: str, content: str) -> None:
    """Write ``content`` into the document at ``path``."""
    text = path.read_text("utf-8") if path.exists() else "# Benchmarks\n"
    path.write_text(replace_block(text, name, content), "utf-8")


def machine() -> str:
    """Return the processor, its cores and the instructions that matter here."""
    return describe(_cpuinfo(), platform.machine())


def processor_kind() -> str:
    """Return the widest instructions of this processor that matter here."""
    return kind_of(_cpuinfo())


def kind_of(cpuinfo: str) -> str:
    """Return the last of ``FEATURES`` that ``cpuinfo`` has, "other" without any."""
    return next(reversed(_features(_fields(cpuinfo))), "other")


def describe(cpuinfo: str, architecture: str) -> str:
    """Return the machine that ``cpuinfo`` describes."""
    fields = _fields(cpuinfo)
    names = [value for key, value in fields if key == "model name"]
    cores = sum(key == "processor" for key, _ in fields)
    have = " ".join(_features(fields))
    return f"{names[0] if names else architecture}, {cores} cores, {have or 'no int8 dot products'}"


def _cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""


def _fields(cpuinfo: str) -> list[tuple[str, str]]:
    pairs = [line.split(":", maxsplit=1) for line in cpuinfo.splitlines() if ":" in line]
    return [(key.strip(), value.strip()) for key, value in pairs]


def _features(fields: list[tuple[str, str]]) -> list[str]:
    lists = [value.split() for key, value in fields if key in ("flags", "Features")]
    return [feature for feature in FEATURES if any(feature in each for each in lists)]
