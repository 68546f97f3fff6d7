"""Whatever a command is given, it ends with one line and exit code 2, or it was meant.

``GMPQ_FUZZ=10000`` runs so many generated inputs instead of a thousand. Every input has a seed of
its own: a failure names it, and ``GMPQ_FUZZ_ONLY=policies/17`` runs it alone.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import shutil
import signal
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn, TypeAlias

import click
import numpy as np
import pytest
import torch

from gmpq.backends.rpc import tracker
from gmpq.backends.rpc.address import Address
from gmpq.cli.commands import group
from gmpq.cli.entry import run
from gmpq.inputs.images import Preprocessing, find_images
from tests.cli.conftest import POLICY
from tests.cli.networks import SHAPE, small
from tests.files.test_graph_mutants import parts
from tests.fuzz import data, documents, places
from tests.fuzz.documents import OWN, Workspace

CASES = int(os.environ.get("GMPQ_FUZZ", "1000"))
ONLY = os.environ.get("GMPQ_FUZZ_ONLY", "")
LONGEST_S = 60  # of one input, on a busy machine; all but a few take milliseconds
MOST_BYTES = 1 << 30
Generator: TypeAlias = Callable[[Workspace, random.Random], tuple[str, ...]]

# What is generated, and its share of all inputs.
KINDS: Mapping[str, tuple[Generator, float]] = {
    "policies": (documents.policies, 0.2),
    "tables": (documents.tables, 0.1),
    "graphs": (documents.graphs, 0.15),
    "outputs": (documents.outputs, 0.15),
    "weights": (data.weights, 0.1),
    "arrays": (data.arrays, 0.1),
    "photographs": (data.photographs, 0.05),
    "places": (places.places, 0.08),
    "addresses": (places.addresses, 0.02),
}
TRACKERS = 0.05
CHUNK = 50  # inputs of one test, so that workers share them


@click.command()
@click.argument("location")
def photograph(location: str) -> None:
    """Read photographs as a compile does, without compiling."""
    images = find_images([location], Preprocessing.of(SHAPE, None))
    for _ in images.batches(8):
        pass


@click.command()
@click.argument("address")
def devices(address: str) -> None:
    """Ask a tracker for its boards."""
    found = asyncio.run(tracker.devices(Address.parse(address)))
    click.echo(tracker.clients_of(found, "none"))


COMMANDS = click.Group(commands={**group.commands, "photograph": photograph, "devices": devices})


def chunks() -> Iterator[tuple[str, int]]:
    for kind, share in [*((k, s) for k, (_, s) in KINDS.items()), ("trackers", TRACKERS)]:
        count = int(CASES * share)
        yield from ((kind, first) for first in range(0, count, CHUNK))


# --- the workspace -------------------------------------------------------------------------------


def prepare(folder: Path) -> None:
    """Write all that valid commands need, and what they make of it."""
    images = np.random.default_rng(0).normal(size=(2, *SHAPE[1:])).astype(np.float32)
    np.save(folder / "images.npy", images)
    (folder / "policy.json").write_text(json.dumps(POLICY), "utf-8")
    torch.save(small().state_dict(), folder / "weights.pt")
    images_of = ("--calibration", "images.npy")
    made = ("compile", "policy.json", *OWN, *images_of, "--no-bench", "--out", "compiled")
    assert run(group, made, "gmpq") == 0
    measured = ("search", "sensitivity", "policy.json", *OWN, *images_of, "--bits", "3")
    assert run(group, (*measured, "--indicators", "indicators.json", "-o", "a.json"), "gmpq") == 0
    (folder / "a.json").unlink()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        prepare(folder)
    return folder


@pytest.fixture
def space(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    folder = tmp_path / "space"
    shutil.copytree(prepared, folder)
    (tmp_path / "tmp").mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bits = {f"w{w}a{a}": 1.0 for w in range(2, 9) for a in range(2, 9)}
    return Workspace(
        folder,
        policy=POLICY,
        indicators=json.loads((folder / "indicators.json").read_text("utf-8")),
        table={"version": 1, "target": "x", "layers": dict.fromkeys(POLICY["layers"], bits)},
        graph=parts(folder / "compiled" / "graph.safetensors"),
        manifest=json.loads((folder / "compiled" / "manifest.json").read_text("utf-8")),
    )


# --- one input -----------------------------------------------------------------------------------


class HangsError(BaseException):
    """A command takes too long."""


def give_up(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise HangsError


@contextmanager
def limited() -> Iterator[None]:
    """End what takes too long, or too much memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    previous = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(LONGEST_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < MOST_BYTES, f"{grown} bytes more than before"


def tree(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*")}


def restore(space: Workspace, pristine: Mapping[Path, bytes]) -> None:
    """Undo what a generator wrote."""
    odd = space.folder / places.ODD
    if odd.is_dir() and not odd.is_symlink():
        shutil.rmtree(odd)
    else:
        odd.unlink(missing_ok=True)
    for path in (*space.folder.glob("bad.*"), *space.folder.glob("found.*")):
        path.unlink()
    for path, content in pristine.items():
        if path.read_bytes() != content:
            path.write_bytes(content)


def check(place: str, arguments: tuple[str, ...], capture: pytest.CaptureFixture[str]) -> None:
    """Run a command and judge how it ends."""
    with limited():
        code = run(COMMANDS, arguments, "gmpq")
    lines = capture.readouterr().err.splitlines()
    errors = [line for line in lines if not line.startswith("warning: ")]
    why = f"{place}: {arguments} ended with {code}: {errors}"
    assert code in (0, 2), why
    assert len(errors) == (0 if code == 0 else 1), why
    assert all(line.startswith("error: ") and line.isprintable() for line in errors), why
    assert "not enough memory" not in "".join(errors), why
    assert code == 2 or arguments[0] not in ("compile", "bench"), why


def seeded(kind: str, first: int) -> Iterator[tuple[str, random.Random]]:
    """Yield the inputs of a chunk, each with its own seed."""
    for index in range(first, first + CHUNK):
        place = f"{kind}/{index}"
        if not ONLY or place == ONLY:
            yield place, random.Random(place)


@pytest.mark.parametrize(("kind", "first"), list(chunks()))
def test_bad_inputs(
    kind: str, first: int, space: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    if kind == "trackers":
        check_trackers(first, capsys)
        return
    pristine = {path: path.read_bytes() for path in space.folder.rglob("*") if path.is_file()}
    names = tree(space.folder)
    for place, rng in seeded(kind, first):
        with warnings.catch_warnings(action="ignore"):  # of torch, about what is damaged here
            arguments = KINDS[kind][0](space, rng)
        check(place, arguments, capsys)
        restore(space, pristine)
        assert tree(space.folder) == names, f"{place}: {arguments} left something"
        assert tree(Path(tempfile.gettempdir())) == set(), f"{place}: {arguments} left something"


def check_trackers(first: int, capsys: pytest.CaptureFixture[str]) -> None:
    listening = places.Tracker()
    try:
        for place, rng in seeded("trackers", first):
            listening.answer = places.answer(rng)
            check(place, ("devices", listening.address), capsys)
    finally:
        listening.close()
