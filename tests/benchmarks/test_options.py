from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from baselines import main
from versus.document import processor_kind
from versus.options import Counts, Names, Options

BASELINES = Path(__file__).parents[2] / "benchmarks" / "baselines.py"


def test_names_are_parted_by_commas() -> None:
    assert Names().convert("w8a8, w4a4,w8a8", None, None) == ("w8a8", "w4a4")


def test_counts_are_parted_by_commas() -> None:
    assert Counts().convert("2,1,2", None, None) == (2, 1)


@pytest.mark.parametrize(
    ("kind", "value"),
    [pytest.param(Names(), "a,,b", id="names"), pytest.param(Counts(), "1,two", id="counts")],
)
def test_bad_lists_are_refused(kind: click.ParamType[object], value: str) -> None:
    with pytest.raises(click.BadParameter, match=value):
        kind.convert(value, None, None)


def test_the_defaults_are_measured() -> None:
    options = Options()
    assert options.networks == ("resnet18", "resnet50", "mobilenet_v2")
    assert options.tools[0] == "gmpq"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"networks": ("resnet81",)}, "did you mean resnet18", id="network"),
        pytest.param({"tools": ("ort",)}, "'ort' is not available", id="tool"),
        pytest.param({"bits": ("w8",)}, "--bits w8: use w8a8", id="bits"),
        pytest.param({"networks": ("squeezenet1_1",)}, "--bits mixed", id="budget"),
        pytest.param({"threads": (0,)}, "use 1 or more", id="threads"),
        pytest.param({"seconds": -1.0}, "--seconds -1: use more than 0", id="seconds"),
        pytest.param({"onnx": Path("my.onnx")}, "name it with --networks", id="onnx"),
        pytest.param({"plot": Path("my.svg")}, "give --correlation too", id="plot"),
        pytest.param(
            {"plot": Path("my.gif"), "correlation": True},
            "--plot my.gif: use .svg or .png",
            id="plot of another kind",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(click.UsageError, match=message):
        Options(**changes)  # type: ignore[arg-type]  # one field of its own type each


def test_a_mistake_exits_with_2() -> None:
    command = [sys.executable, str(BASELINES), "--tools", "openvino"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "openvino-int8" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("option", ["--json", "--docs"])
def test_a_file_without_a_folder_is_refused_before_measuring(option: str, tmp_path: Path) -> None:
    path = tmp_path / "missing" / "file"
    result = CliRunner().invoke(main, [option, str(path)])
    assert result.exit_code == 2
    assert f"there is no folder {path.parent}: make it" in result.output


def test_a_document_of_half_a_block_is_refused_before_measuring(tmp_path: Path) -> None:
    path = tmp_path / "benchmarks.md"
    begin = f"<!-- begin baselines {processor_kind()} -->"
    path.write_text(begin)
    result = CliRunner().invoke(main, ["--docs", str(path)])
    assert result.exit_code == 2
    assert "restore both" in result.output
    assert path.read_text() == begin
