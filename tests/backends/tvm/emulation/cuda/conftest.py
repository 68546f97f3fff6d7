"""An emulated driver with two small kernels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gmpq.backends.tvm.emulation.cuda import library
from tests.support.gpu.cuda_kernels import Driver, load_text
from tests.support.gpu.small_kernels import KERNELS, TEXT


@pytest.fixture(scope="session")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("driver")
    load_text(TEXT, KERNELS, folder)
    return folder / library.NAME


@pytest.fixture
def driver(path: Path) -> Iterator[Driver]:
    found = Driver.load(path)
    with found.context():
        yield found
        found.set(late_streams=0, devices=1, capability=80)
        assert found.library.emulated_forget_failures() == 0
    assert found.counts.alive.keys() <= {"graphs", "executables"}  # which no context owns
