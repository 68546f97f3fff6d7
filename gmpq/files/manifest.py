"""``manifest.json``: what an output directory holds, with a digest of every file.

It is written last, so a directory without it is not finished. ``FORMAT`` counts its versions:

- 1: first version.
- 2: a step of the program stores any number of values.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeAlias

from gmpq.errors import GmpqError, OutputError
from gmpq.files.strict_json import load, plain, unique
from gmpq.files.untrusted import read_text
from gmpq.ir import Dequantize, IntGraph, Quantize, Value

FORMAT = 2
NAME = "manifest.json"
COMPILED, TRAINED, BOARD = "gmpq output", "gmpq training", "gmpq board"  # kinds of directories
TOOLS = ("gmpq", "numpy", "torch", "onnx", "onnxruntime", "apache-tvm", "apache-tvm-ffi")

Fields: TypeAlias = dict[str, Any]  # what JSON holds


def write(directory: Path, fields: Mapping[str, Any], kind: str = COMPILED) -> None:
    """Write the manifest of all files in ``directory``, and ``fields``.

    Raises:
        OSError: it cannot be written.
    """
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    manifest = {
        "format": FORMAT,
        "kind": kind,
        **fields,
        "files": {
            path.relative_to(directory).as_posix(): {
                "sha256": digest(path),
                "bytes": path.stat().st_size,
            }
            for path in files
            if path != directory / NAME
        },
        "tools": versions(),
    }
    (directory / NAME).write_text(json.dumps(manifest, indent=2, allow_nan=False) + "\n", "utf-8")


def read(directory: Path) -> Fields:
    """Return the manifest of a compiled ``directory``.

    Raises:
        OutputError: there is none, or it is not one that this gmpq reads.
    """
    path = directory / NAME
    try:
        manifest = _parse(path)
    except GmpqError as error:
        raise OutputError(
            f"{directory}: not an output of gmpq: {NAME} is missing or damaged ({error}): "
            "compile again"
        ) from error
    kind = manifest.get("kind")
    if kind == TRAINED:
        raise OutputError(
            f"{directory}: is trained, not compiled: gmpq-compile {directory}/policy.json"
        )
    if kind != COMPILED:
        raise OutputError(f"{directory}: not an output of gmpq: {NAME} is of another kind")
    if manifest.get("format") != FORMAT:
        raise OutputError(
            f"{path}: format {manifest.get('format')!r:.40} is not {FORMAT}: compile again"
        )
    return manifest


def _parse(path: Path) -> Fields:
    """Return the object in ``path``; raises ``GmpqError`` if there is none."""
    text = read_text(path, OutputError)
    fields = unique("file", load(text))
    return {key: plain(key, value) for key, value in fields.items()}


def _files(manifest: Fields) -> dict[str, str]:
    """Return the digests of the files by name; raises ``OutputError`` if they are not there."""
    files = manifest.get("files")
    if not isinstance(files, dict):
        raise OutputError(f"files must be an object, not {files!r:.40}")
    for name, file in files.items():
        if not isinstance(file, dict) or not isinstance(file.get("sha256"), str):
            raise OutputError(f"file {name!r:.80} has no digest")
        if not name or Path(name).is_absolute() or ".." in Path(name).parts:
            raise OutputError(f"file {name!r:.80} lies outside of the directory")
    return {name: file["sha256"] for name, file in files.items()}


def check_files(directory: Path) -> Fields:
    """Return the manifest of ``directory`` after comparing the digest of every file.

    Raises:
        OutputError: a file is missing or was changed.
    """
    manifest = read(directory)
    try:
        digests = _files(manifest)
    except OutputError as error:
        raise OutputError(f"{directory / NAME}: damaged: {error}: compile again") from error
    for name, expected in digests.items():
        path = directory / name
        if not path.is_file():
            raise OutputError(f"{path}: missing: compile again")
        if digest(path) != expected:
            raise OutputError(f"{path}: changed since it was compiled: compile again")
    return manifest


def owned(directory: Path) -> frozenset[str]:
    """Return the names at the top of ``directory`` that gmpq wrote, in whatever format; or none."""
    try:
        manifest = _parse(directory / NAME)
        names = [Path(name).parts[0] for name in _files(manifest)]
    except GmpqError:
        return frozenset()
    return frozenset({NAME, *names} if manifest.get("kind") in (COMPILED, TRAINED, BOARD) else ())


def digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def versions() -> dict[str, str]:
    """Return the versions of the tools that are installed."""
    found = {}
    for name in TOOLS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def interface(graph: IntGraph) -> Fields:
    """Return what a program of ``graph`` reads and writes.

    Tensors are float32 outside; ``codes`` says how the program quantizes them at once, or what
    codes they were. An output without them is float32 from its layer on.
    """
    quantized = {
        node.inputs[0]: graph.values[node.output]
        for node in graph.nodes
        if isinstance(node, Quantize)
    }
    sources = {
        node.output: graph.values[node.inputs[0]]
        for node in graph.nodes
        if isinstance(node, Dequantize)
    }
    return {
        "inputs": [_tensor(graph.values[name], quantized.get(name)) for name in graph.inputs],
        "outputs": [_tensor(graph.values[name], sources.get(name)) for name in graph.outputs],
    }


def _tensor(value: Value, codes: Value | None) -> Fields:
    fields: Fields = {"name": value.name, "shape": list(value.shape), "type": "float32"}
    if codes is not None and codes.q is not None:
        q = codes.q
        fields["codes"] = {
            "type": "uint8",
            "scale": q.scale,
            "zero_point": q.zero_point,
            "bits": q.bits,
            "low": q.low,
            "high": q.high,
        }
    return fields
