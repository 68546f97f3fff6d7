from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gmpq.errors import OutputError
from gmpq.policy import LayerBits
from gmpq.search.plot import draw_policy

BITS = {"conv1": LayerBits(8, 8), "layer1.0.conv1": LayerBits(2, 4), "fc": LayerBits(8, 8)}


def test_a_picture_names_every_layer(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    draw_policy(BITS, "policy.json", tmp_path / "policy.svg")
    text = (tmp_path / "policy.svg").read_text("utf-8")
    assert all(f"<!-- {name} -->" in text for name in BITS)


def test_an_unknown_format_is_reported(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(OutputError, match=r"policy.xyz: cannot be drawn.*use .png"):
        draw_policy(BITS, "policy.json", tmp_path / "policy.xyz")


def test_matplotlib_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(OutputError, match=r"pip install .* -e '\.\[plot\]'"):
        draw_policy(BITS, "policy.json", tmp_path / "policy.svg")
