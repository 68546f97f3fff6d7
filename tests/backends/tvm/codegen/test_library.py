"""Entry points and parameters of libraries: types, names, and what is compiled once."""

from __future__ import annotations

from pathlib import Path

import pytest

from gmpq.backends.tvm.codegen import toolchain
from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.codegen.form import Form
from gmpq.backends.tvm.codegen.header import entry_macros, public_header
from gmpq.backends.tvm.codegen.library import ENTRY_SOURCE, PARAMS_SOURCE, compile_params
from gmpq.backends.tvm.codegen.toolchain import compile_object
from gmpq.backends.tvm.host import HostProgram
from gmpq.backends.tvm.plan.plan import plan
from gmpq.backends.tvm.target import find
from gmpq.errors import TargetError
from gmpq.files import temporary
from tests.support.strategies import random_graph, random_input


def test_entry_points_have_the_types_of_the_header(tmp_path: Path) -> None:
    graph, target = random_graph(3), find("native")
    planned = plan(graph, target)
    header = tmp_path / "model.h"
    header.write_text(public_header(graph, planned, 64, embedded=True))
    flags = ("-Wall", "-Wextra", "-Werror", "-include", str(header))
    for source in (ENTRY_SOURCE, PARAMS_SOURCE):
        (tmp_path / "params.bin").write_bytes(bytes(64))
        (tmp_path / source.name).write_text(source.read_text())
        macros = (*flags, *entry_macros(graph, planned))
        assert compile_object(tmp_path / source.name, macros, target).stat().st_size
        wrong = tmp_path / f"wrong_{source.name}"
        wrong.write_text(source.read_text().replace("const void *", "const char *"))
        with pytest.raises(TargetError, match=r"conflicting types"):
            compile_object(wrong, macros, target)


def test_equal_entry_points_are_compiled_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, target, libraries = random_graph(3), find("native"), []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        build(graph, target, tmp_path / name)
        libraries.append((tmp_path / name / "model.so").read_bytes())
        monkeypatch.setattr(toolchain, "C", ("-no-such-flag",))  # nothing else can be compiled
    assert libraries[0] == libraries[1]
    with pytest.raises(TargetError, match=r"cannot make entry.o: "):
        build(graph, target, tmp_path, form=Form(prefix="other"))


def test_parameters_of_equal_size_are_not_mistaken(tmp_path: Path) -> None:
    objects = []
    for content in (b"first", b"other"):
        with temporary.folder(tmp_path) as folder:
            made = compile_params(content, "gmpq", find("native"), folder)
            objects.append(made.read_bytes())
    assert [b"first" in objects[0], b"other" in objects[1]] == [True, True]


@pytest.mark.parametrize("prefix", ["linux", "unix", "inputs", "pool"])
def test_prefixes_that_c_knows_otherwise(prefix: str, tmp_path: Path) -> None:
    form = Form(embed_params=True, prefix=prefix)
    graph = random_graph(3)
    program = build(graph, find("native"), tmp_path, form=form).program
    found = HostProgram.open(tmp_path, program).run(random_input(graph, 0))
    assert list(found) == list(graph.outputs)
