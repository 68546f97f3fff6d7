"""A file appears complete or not at all, whoever writes it and whatever goes wrong."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

import pytest
import torch
from torch import nn

from gmpq.backends.tvm.tuning import cache
from gmpq.errors import OutputError
from gmpq.files import atomic, temporary
from gmpq.models import checkpoints
from gmpq.policy import LayerBits, Policy
from gmpq.policy import file as policy_file
from gmpq.qat import checkpoint
from gmpq.qat.checkpoint import Checkpoint
from gmpq.search.differentiable.teacher import save_teacher
from gmpq.search.files import write_json
from gmpq.search.latency import profile

Write: TypeAlias = Callable[[Path], object]
OLD = '{"kernels": 1, "results": {}}'  # a cache reads its file before it writes
RNG = torch.zeros(1, dtype=torch.uint8)


def tuning(path: Path) -> None:
    """Remember a time; a failure is a warning there."""
    warnings: list[str] = []
    cache.remember(path, 1, {"layer": {"direct": 0.5}}, warnings.append)
    for warning in warnings:
        if warning.endswith("measured times are not remembered"):
            raise OutputError(warning)


WRITERS: dict[str, Write] = {
    "text": lambda path: atomic.write_text(path, "new\n"),
    "bytes": lambda path: atomic.write_bytes(path, b"new"),
    "policy": lambda path: policy_file.write(Policy({}, LayerBits(4, 4)), path),
    "indicators": lambda path: write_json(path, {"version": 1}, {"conv": [1]}),
    "latency-table": lambda path: profile.write({"version": 1}, path),
    "teacher": lambda path: save_teacher(nn.Linear(2, 2), path),
    "search-checkpoint": lambda path: checkpoints.write({"weights": torch.zeros(3)}, path),
    "training-checkpoint": lambda path: checkpoint.save(
        Checkpoint("{}", {}, {}, RNG, 1, {}, 0.5, 1, ""), path
    ),
    "tuning-cache": tuning,
}
WRITER = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fail(error: BaseException) -> Callable[[object], None]:
    def fsync(_: object) -> None:
        raise error

    return fsync


@WRITER
def test_it_replaces_a_file(tmp_path: Path, write: Write) -> None:
    path = tmp_path / "file"
    path.write_text(OLD)
    path.chmod(0o600)
    umask = os.umask(0o022)
    try:
        write(path)
    finally:
        os.umask(umask)
    assert path.read_bytes() != OLD.encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert names(tmp_path) == ["file"]


@WRITER
@pytest.mark.parametrize(
    ("error", "raised"),
    [
        pytest.param(OSError(28, "No space left on device"), OutputError, id="full"),
        pytest.param(KeyboardInterrupt(), KeyboardInterrupt, id="interrupt"),
        pytest.param(MemoryError(), MemoryError, id="memory"),
    ],
)
def test_a_failure_keeps_the_old_file_and_nothing_else(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    write: Write,
    error: BaseException,
    raised: type[BaseException],
) -> None:
    path = tmp_path / "file"
    path.write_text(OLD)
    monkeypatch.setattr(os, "fsync", fail(error))
    with pytest.raises(raised):
        write(path)
    assert path.read_text() == OLD
    assert names(tmp_path) == ["file"]


@WRITER
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Write) -> None:
    """All writes end in ``/dev/full``, whose every write fails."""
    made = temporary.folder

    @contextmanager
    def full(parent: Path, name: str) -> Iterator[Path]:
        with made(parent, name) as scratch:
            (scratch / name).symlink_to("/dev/full")
            yield scratch

    monkeypatch.setattr(temporary, "folder", full)
    with pytest.raises(OutputError, match=r"^.*file: cannot be written: [^\n]+$"):
        write(tmp_path / "file")
    assert names(tmp_path) == []


@WRITER
def test_a_folder_a_pipe_and_a_missing_folder_are_mistakes(tmp_path: Path, write: Write) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "held").write_text("a file")
    for place, reason in (
        ("folder", "Is a directory"),
        ("pipe", "it is no regular file"),
        ("held/file", "Not a directory"),
    ):
        with pytest.raises(OutputError) as found:
            write(tmp_path / place)
        assert str(found.value).startswith(f"{tmp_path / place}: cannot be written: {reason}")
        assert "\n" not in str(found.value)
    assert names(tmp_path) == ["folder", "held", "pipe"]
    assert names(tmp_path / "folder") == []


@WRITER
def test_a_link_is_replaced_and_its_file_stays(tmp_path: Path, write: Write) -> None:
    (tmp_path / "other").write_text(OLD)
    (tmp_path / "link").symlink_to("other")
    (tmp_path / "nowhere").symlink_to("missing")
    (tmp_path / "device").symlink_to("/dev/null")
    for name in ("link", "nowhere"):
        write(tmp_path / name)
        assert not (tmp_path / name).is_symlink()
    with pytest.raises(OutputError, match="it is no regular file"):
        write(tmp_path / "device")
    assert (tmp_path / "device").is_symlink()
    assert (tmp_path / "other").read_text() == OLD
    assert names(tmp_path) == ["device", "link", "nowhere", "other"]


def test_an_interrupted_block_leaves_nothing(tmp_path: Path) -> None:
    with suppress(KeyboardInterrupt), atomic.written(tmp_path / "file") as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert names(tmp_path) == []
