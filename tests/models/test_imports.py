"""Networks named on the command line as package.module:factory."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import nn

from gmpq.errors import LoweringError
from gmpq.models.imports import import_factory

SOURCE = """
from torch import nn
def build(): return nn.ReLU()
def build_more(size): return nn.ReLU()
def number(): return 3
def fails(): return nn.Conv2d(3, 4, 3, groups=2)
class Net(nn.Sequential): pass
ready = nn.ReLU()
three = 3
"""


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "usernets").mkdir()
    (tmp_path / "usernets" / "small.py").write_text(SOURCE)
    (tmp_path / "usernets" / "broken.py").write_text("def build(:\n")
    (tmp_path / "usernets" / "needy.py").write_text("import no_such_package\n")
    (tmp_path / "usernets" / "outdated.py").write_text("from math import no_such_name\n")
    before, path = set(sys.modules), list(sys.path)
    yield
    assert sys.path == path
    for name in set(sys.modules) - before:
        if name.startswith("usernets"):
            del sys.modules[name]


@pytest.mark.parametrize("factory", ["build", "Net", "ready"])
def test_factories(factory: str) -> None:
    assert isinstance(import_factory(f"usernets.small:{factory}"), nn.Module)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("usernets.small", "expected package.module:factory", id="no-factory"),
        pytest.param("usernets/small.py:build", "expected package.module", id="a-path"),
        pytest.param(":build", "expected package.module", id="no-module"),
        pytest.param("usernets.tiny:build", "there is no module 'usernets.tiny'", id="no-file"),
        pytest.param("nowhere.tiny:build", "there is no module 'nowhere': is it", id="no-package"),
        pytest.param("usernets.needy:build", "'no_such_package': install it", id="needs-more"),
        pytest.param("usernets.outdated:build", "cannot be imported: cannot import", id="outdated"),
        pytest.param("usernets.broken:build", "cannot be imported: invalid syntax", id="syntax"),
        pytest.param("usernets.small:biuld", "no 'biuld' (did you mean build", id="typo"),
        pytest.param("usernets.small:three", "is int, not a function or class", id="no-callable"),
        pytest.param(
            "usernets.small:build_more", "needs arguments (size): it must need none", id="needs"
        ),
        pytest.param("usernets.small:fails", "fails: ValueError: in_channels must", id="fails"),
        pytest.param("usernets.small:number", "returned int, not a torch.nn.Module", id="returns"),
    ],
)
def test_refusals(text: str, message: str) -> None:
    with pytest.raises(LoweringError) as caught:
        import_factory(text)
    assert str(caught.value).startswith(f"{text}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
