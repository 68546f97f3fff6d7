"""An output directory appears complete or not at all, and never over something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from gmpq.artifact.staging import staged
from gmpq.errors import OutputError
from gmpq.files import manifest, temporary


def fill(out: Path, text: str = "1") -> None:
    with staged(out) as work:
        (work / "model.onnx").write_text(text, "utf-8")
        manifest.write(work, {})


def test_the_directory_appears_when_all_went_well(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    fill(out)
    assert sorted(path.name for path in out.iterdir()) == ["manifest.json", "model.onnx"]
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ValueError, OutputError])
def test_nothing_is_left_of_a_failure(tmp_path: Path, failure: type[BaseException]) -> None:
    def fail() -> None:
        with staged(tmp_path / "deep" / "out") as work:
            (work / "model.onnx").write_text("1", "utf-8")
            raise failure

    with pytest.raises(failure):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_in_one_line(tmp_path: Path) -> None:
    def fail() -> None:
        with staged(tmp_path / "out"):
            raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="out: cannot be written: No space left on device"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_other_files_are_not_blamed_on_the_output(tmp_path: Path) -> None:
    def fail() -> None:
        with staged(tmp_path / "out"):
            (tmp_path / "cache" / "kernels.json").write_text("{}", "utf-8")

    with pytest.raises(FileNotFoundError, match=r"cache/kernels\.json"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_links_in_a_circle(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.symlink_to(tmp_path / "other")
    (tmp_path / "other").symlink_to(out)
    for place in (out, out / "inside"):
        with pytest.raises(OutputError, match=r"out.*: is a circle of links: choose"):
            fill(place)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_link_to_an_output_is_followed(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "out")
    fill(link)
    assert link.is_symlink()
    assert (tmp_path / "out" / "model.onnx").exists()


def test_an_output_survives_a_kill_while_it_is_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    fill(out, "1")
    aside = tmp_path / f".out.{temporary.MARK}abcdefgh"
    aside.mkdir()
    out.rename(aside / "out")

    def fail() -> None:
        with staged(out):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert (out / "model.onnx").read_text("utf-8") == "1"
    assert list(tmp_path.iterdir()) == [out]


def test_an_earlier_output_is_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    fill(out, "1")
    fill(out, "2")
    assert (out / "model.onnx").read_text("utf-8") == "2"
    assert list(tmp_path.iterdir()) == [out]


def test_an_earlier_output_survives_a_failure(tmp_path: Path) -> None:
    out = tmp_path / "out"
    fill(out, "1")

    def fail() -> None:
        with staged(out):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert (out / "model.onnx").read_text("utf-8") == "1"


def test_something_else_is_never_replaced(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine", "utf-8")
    with pytest.raises(OutputError, match="is not a directory"):
        fill(file)
    with pytest.raises(OutputError, match="cannot be written: File exists"):
        fill(file / "out")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine", "utf-8")
    with pytest.raises(OutputError, match=r"already holds notes\.txt"):
        fill(folder)
    out = tmp_path / "out"
    fill(out)
    (out / "notes.txt").write_text("mine", "utf-8")
    with pytest.raises(OutputError, match=r"already holds notes\.txt"):
        fill(out)
    assert (out / "notes.txt").read_text("utf-8") == "mine"


def test_an_output_of_another_format_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr(manifest, "FORMAT", 1)
        fill(tmp_path / "out", "1")
    fill(tmp_path / "out", "2")
    assert (tmp_path / "out" / "model.onnx").read_text("utf-8") == "2"


def test_changed_and_missing_files_are_found(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(OutputError, match="not an output of gmpq"):
        manifest.check_files(out)
    fill(out)
    assert manifest.check_files(out)["files"]["model.onnx"]["bytes"] == 1
    (out / "model.onnx").write_text("2", "utf-8")
    with pytest.raises(OutputError, match="changed since it was compiled"):
        manifest.check_files(out)
    (out / "model.onnx").unlink()
    with pytest.raises(OutputError, match="missing"):
        manifest.check_files(out)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("{", "missing or damaged", id="broken"),
        pytest.param('{"kind": "else"}', "of another kind", id="kind"),
        pytest.param('{"kind": "gmpq output", "format": 9}', "format 9 is not 2", id="format"),
        pytest.param('{"kind": "gmpq training"}', "is trained, not compiled", id="trained"),
    ],
)
def test_another_manifest_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "manifest.json").write_text(text, "utf-8")
    with pytest.raises(OutputError, match=message):
        manifest.read(tmp_path)
