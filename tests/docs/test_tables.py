"""Documents name all that a user can choose."""

from __future__ import annotations

import pytest

from gmpq.backends.tvm.emulation.qemu import EMULATORS
from gmpq.backends.tvm.kernels.cpu.families import KERNELS
from gmpq.backends.tvm.target import NAMES, cpu
from gmpq.backends.tvm.target.llvm import X86
from gmpq.calib.observers import OBSERVERS
from gmpq.models import ARCHS
from gmpq.qat.scales import METHODS
from gmpq.search.differentiable.settings import QuantizerKind
from predicted.networks import PROCESSORS
from tests.support.documents import ROOT

ARM = [row.name for row in cpu.ROWS if row.triple != X86]
NAMED = [
    pytest.param("docs/output.md", ARM, id="targets"),
    pytest.param("README.md", list(NAMES), id="targets-readme"),
    pytest.param("docs/accuracy.md", [each.name for each in OBSERVERS], id="observers"),
    pytest.param("docs/kernels.md", [each.name for each in KERNELS], id="families"),
    pytest.param("README.md", [each.name for each in ARCHS], id="networks"),
    pytest.param("docs/search-gmpq.md", [each.value for each in QuantizerKind], id="quantizers"),
    pytest.param("docs/finetune.md", [f"--method {name}" for name, _ in METHODS], id="methods"),
]


@pytest.mark.parametrize(("document", "names"), NAMED)
def test_a_document_names_all(document: str, names: list[str]) -> None:
    text = (ROOT / document).read_text("utf-8")
    assert [name for name in names if f"`{name}`" not in text] == []


def test_every_observer_is_measured() -> None:
    header = ["bits", *(observer.name for observer in OBSERVERS)]
    assert f"| {' | '.join(header)} |" in (ROOT / "docs/accuracy.md").read_text("utf-8")


def test_every_target_has_a_model_of_its_processor() -> None:
    assert set(ARM) <= set(PROCESSORS)


@pytest.mark.parametrize("name", ARM)
def test_every_target_has_an_emulated_processor(name: str) -> None:
    (row,) = (each for each in cpu.ROWS if each.name == name)
    assert row.attributes or row.cpu in EMULATORS[row.triple].processors
