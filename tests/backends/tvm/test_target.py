from __future__ import annotations

import platform
from dataclasses import replace
from pathlib import Path

import pytest

from gmpq.backends.tvm.build import build
from gmpq.backends.tvm.target import NAMES, find, native
from gmpq.errors import TargetError
from tests.strategies import random_graph

AARCH64 = 183  # e_machine of an ELF file


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_found(name: str) -> None:
    assert find(name).name == name


def test_an_unknown_target_offers_close_names() -> None:
    with pytest.raises(TargetError, match=r"target 'arm46' is unknown \(did you mean arm64\b"):
        find("arm46")


def test_this_machine_runs_its_own_target() -> None:
    assert native().runs_here()


def test_another_architecture_does_not_run_here() -> None:
    other = find("arm64" if platform.machine() == "x86_64" else "x86-64-v3")
    assert not other.runs_here()


def test_a_missing_instruction_set_does_not_run_here() -> None:
    assert not replace(native(), features=native().features | {"not-yet-built"}).runs_here()


def test_a_library_for_arm64_is_cross_compiled(tmp_path: Path) -> None:
    build(random_graph(3), find("arm64"), tmp_path)
    header = (tmp_path / "model.so").read_bytes()[:20]
    assert header[:4] == b"\x7fELF"
    assert int.from_bytes(header[18:20], "little") == AARCH64


def test_a_missing_compiler_is_named_with_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    target = replace(find("arm64"), compiler="no-such-gcc")
    with pytest.raises(TargetError, match=r"'no-such-gcc' not found: .*pip install gmpq\[cross\]"):
        build(random_graph(3), target, tmp_path)
