"""A directory is removed with its block, or by the next process when its own was killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gmpq.files import temporary

HOLD = """
import sys
from pathlib import Path
from gmpq.files import temporary
with temporary.folder(Path(sys.argv[1]), "out") as path:
    (path / "file").write_text("1")
    print(path, flush=True)
    sys.stdin.read()
"""


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def make(place: Path) -> str:
    with temporary.folder(place, "out") as path:
        return path.name


def test_it_ends_with_its_block(tmp_path: Path) -> None:
    with temporary.folder(tmp_path) as path:
        assert names(tmp_path) == [path.name]
        (path / "inside").mkdir()
    assert names(tmp_path) == []
    with temporary.folder(tmp_path) as path:
        path.rename(tmp_path / "kept")
    assert names(tmp_path) == ["kept"]


def test_what_a_living_process_holds_stays(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holding:
        assert holding.stdout is not None
        held = Path(holding.stdout.readline().strip())
        make(tmp_path)
        assert (held / "file").exists()
        holding.send_signal(signal.SIGKILL)
        holding.wait()
        assert (held / "file").exists()
        make(tmp_path)
        assert names(tmp_path) == []


@pytest.mark.parametrize(
    "name",
    [
        ".out.gmpq-scratch-abcdefghi",  # longer
        ".out.gmpq-research",
        ".other.gmpq-scratch-abcdefgh",
        "out.gmpq-scratch-abcdefgh",
    ],
)
def test_what_others_made_stays(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    make(tmp_path)
    assert names(tmp_path) == [name]


def test_files_and_links_stay(tmp_path: Path) -> None:
    target = tmp_path / "mine"
    target.mkdir()
    (target / "notes.txt").write_text("mine", "utf-8")
    place = tmp_path / "place"
    place.mkdir()
    (place / ".out.gmpq-scratch-aaaaaaaa").write_text("a file", "utf-8")
    (place / ".out.gmpq-scratch-bbbbbbbb").symlink_to(target)
    make(place)
    assert len(names(place)) == 2
    assert (target / "notes.txt").exists()


def test_a_folder_that_is_taken_before_it_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = iter(("00000000", "00000001"))
    locked = temporary._locked

    def taken_once(path: Path) -> int | None:
        if path.name.endswith("0"):
            path.rmdir()  # by another process
        return locked(path)

    monkeypatch.setattr(temporary.secrets, "token_hex", lambda _: next(names))
    monkeypatch.setattr(temporary, "_locked", taken_once)
    with temporary.folder(tmp_path) as path:
        assert path.name.endswith("00000001")
        assert path.is_dir()


def test_a_name_that_is_taken_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = iter(("00000000", "00000001"))
    monkeypatch.setattr(temporary.secrets, "token_hex", lambda _: next(names))
    taken = tmp_path / f"{temporary.MARK}00000000"
    taken.write_text("a file", "utf-8")
    with temporary.folder(tmp_path) as path:
        assert path.name.endswith("00000001")
    assert taken.exists()
