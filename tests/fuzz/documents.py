"""Generated documents: policies, tables, graphs and output directories, most of them damaged.

A generator writes files into a workspace and returns the arguments of the command that reads them.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.numpy import save as save_arrays

from gmpq.files import manifest, saved_graph
from tests.support.mutants import mutant, torn

OWN = ("--import", "tests.cli.networks:small")
# The target is looked up after everything is read, and before anything is computed.
COMPILE = ("compile", "policy.json", *OWN, "--no-bench", "--target", "none", "--out", "out")
WEIGHTS = ("--calibration", "images.npy", "--weights")

TEXTS = (
    *("", " ", "null", "[]", "{}", "0", '"x"', "NaN", "{", '{"version": 1}', "[" * 100_000),
    *('{"a":' * 3000, "9" * 5000, "\ufeff{}", "\x00", '{"version": 1, "version": 1}', "[1e400]"),
)


@dataclass(frozen=True)
class Workspace:
    """A folder with everything that a command needs, and what damaged documents are made of."""

    folder: Path
    policy: dict[str, Any]
    indicators: dict[str, Any]
    table: dict[str, Any]
    graph: tuple[dict[str, Any], dict[str, Any]]  # header and arrays
    manifest: dict[str, Any]  # of the directory ``compiled``

    def write(self, name: str, content: bytes) -> str:
        """Write a file; return its name."""
        (self.folder / name).write_bytes(content)
        return name


def encoded(document: Any, rng: random.Random) -> bytes:
    """Return a document as bytes, of which some are damaged."""
    text = json.dumps(document)
    match rng.randrange(8):
        case 0:
            return torn(text.encode(), rng)
        case 1:
            return text.encode(rng.choice(("utf-16", "utf-8-sig", "utf-32")))
        case _:
            return text.encode()


def damaged(document: Any, rng: random.Random) -> bytes:
    """Return a document with one to three mutations, or something else altogether."""
    if rng.randrange(12) == 0:
        return rng.choice(TEXTS).encode()
    for _ in range(rng.randrange(1, 4)):
        document = mutant(document, rng)
        if not document:
            break
    return encoded(document, rng)


def policies(space: Workspace, rng: random.Random) -> tuple[str, ...]:
    """Damage a policy."""
    space.write("policy.json", damaged(space.policy, rng))
    if rng.randrange(40) == 0:
        return ("explain", "policy.json", *OWN)
    return (*COMPILE, "--calibration", "images.npy")


def tables(space: Workspace, rng: random.Random) -> tuple[str, ...]:
    """Damage the indicators or the latency table of a search."""
    command = ("search", "sensitivity", "policy.json", *OWN, "-o", "found.json", "--indicators")
    if rng.random() < 0.5:
        space.write("bad.json", damaged(space.indicators, rng))
        return (*command, "bad.json", "--bits", "3")
    space.write("bad.json", damaged(space.table, rng))
    return (*command, "indicators.json", "--latency", "9", "--latency-table", "bad.json")


def graphs(space: Workspace, rng: random.Random) -> tuple[str, ...]:
    """Damage a trained graph."""
    header, arrays = space.graph
    text = damaged(header, rng).decode(errors="replace")
    content = save_arrays(arrays, {saved_graph.HEADER: text})
    space.write("bad.safetensors", torn(content, rng) if rng.randrange(5) == 0 else content)
    model = space.policy["model"] | {"quantized": "bad.safetensors"}
    space.write("policy.json", json.dumps(space.policy | {"model": model}).encode())
    return (*COMPILE, "--calibration", "images.npy")


JSONS = ("manifest.json", "parity.json", "latency.json")
TOUCHED = (*JSONS, "graph.safetensors", "samples.safetensors", "model.h", "params.bin")


def outputs(space: Workspace, rng: random.Random) -> tuple[str, ...]:
    """Damage a file of a compiled directory, some with a digest that says so."""
    name = rng.choice((*TOUCHED, *["manifest.json"] * 8))
    path = space.folder / "compiled" / name
    content = path.read_bytes()
    path.write_bytes(damaged(json.loads(content), rng) if name in JSONS else torn(content, rng))
    if name != manifest.NAME and rng.random() < 0.7:
        fields = json.loads(json.dumps(space.manifest))
        fields["files"][name]["sha256"] = manifest.digest(path)
        space.write("compiled/manifest.json", json.dumps(fields).encode())
    return rng.choice(
        (
            ("explain", "compiled"),
            ("explain", "compiled", "--loss"),
            ("bench", "compiled", "--tracker", "127.0.0.1:1", "--key", "none"),
            (*COMPILE, "--out", "compiled", "--calibration", "images.npy"),
        )
    )
