"""Documents name all that a user can choose, and copies of names agree."""

from __future__ import annotations

import click
import pytest

from gmpq.backends.tvm.plan.registry import KERNELS
from gmpq.backends.tvm.target import cpu
from gmpq.calib.observers import OBSERVERS
from gmpq.cli.commands import group
from gmpq.models import ARCHS
from gmpq.search.differentiable.quantizers import QUANTIZERS
from predicted.networks import PROCESSORS
from tests.support.documents import ROOT

NAMED = [
    pytest.param(
        "docs/output.md", [row.name for row in cpu.ROWS if "x86" not in row.name], id="targets"
    ),
    pytest.param("README.md", list(cpu.NAMES), id="targets-readme"),
    pytest.param("docs/accuracy.md", [each.name for each in OBSERVERS], id="observers"),
    pytest.param("docs/kernels.md", [each.name for each in KERNELS], id="families"),
    pytest.param("README.md", [each.name for each in ARCHS], id="networks"),
    pytest.param("docs/search-gmpq.md", [each.name for each in QUANTIZERS], id="quantizers"),
]


@pytest.mark.parametrize(("document", "names"), NAMED)
def test_a_document_names_all(document: str, names: list[str]) -> None:
    text = (ROOT / document).read_text("utf-8")
    assert [name for name in names if f"`{name}`" not in text] == []


def test_every_named_target_has_a_model_of_its_processor() -> None:
    assert {row.name for row in cpu.ROWS if "x86" not in row.name} <= set(PROCESSORS)


def test_the_command_has_the_names_of_all_quantizers() -> None:
    search = group.commands["search"]
    assert isinstance(search, click.Group)
    (option,) = (each for each in search.commands["gmpq"].params if each.name == "quantizers")
    assert isinstance(option.type, click.Choice)
    assert set(option.type.choices) == {each.name for each in QUANTIZERS}
