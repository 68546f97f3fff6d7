"""``model.a`` and the example in C that is linked with it, here and on emulated processors."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest

from gmpq.backends import reference
from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.codegen.example import EXAMPLE, classify_program
from gmpq.backends.tvm.codegen.form import Form
from gmpq.backends.tvm.codegen.toolchain import compile_program
from gmpq.backends.tvm.emulation import qemu
from gmpq.backends.tvm.target import Target, find
from gmpq.ir import IntGraph
from tests.support.elf import global_symbols
from tests.support.strategies import random_graph, random_input

Done: TypeAlias = subprocess.CompletedProcess[str]

NAMES = ("native", "arm64", "armv7")
STATIC, EMBEDDED = Form(static=True), Form(static=True, embed_params=True)
NAMED = Form(static=True, embed_params=True, prefix="lite0")
ENTRIES, PARAMS_ENTRY = {"gmpq_run", "gmpq_run_steps", "gmpq_set_threads"}, "gmpq_params"
STRICT = ("-Wall", "-Wextra", "-Werror")
LINKED = ("-lm", "-pthread")
SEED = 39  # of a classifier: convolutions, a table, a fully connected layer; 100 classes
# Of the C library and the compiler's: threads, memory moves, arithmetic; nothing allocates.
NEEDED = {"pthread_" + name for name in ("create", "join", "mutex_lock", "mutex_unlock")}
NEEDED |= {"pthread_cond_broadcast", "pthread_cond_wait", "sched_yield", "expf"}
NEEDED |= {f"pthread_attr_{name}" for name in ("init", "getstacksize", "setstacksize", "destroy")}
NEEDED |= {
    "pthread_mutex_trylock",
    "getpid",
    "memset",
    "memcpy",
    "memmove",
    "_GLOBAL_OFFSET_TABLE_",
}
NEEDED |= {"syscall"}  # asks for the tile registers of AMX
COMPILERS = ("__aarch64_", "__aeabi_")  # what the compiler's own library has


REASONS = {n: None if n == "native" else qemu.missing(find(n)) for n in NAMES}
everywhere = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.skipif(reason is not None, reason=str(reason)))
        for name, reason in REASONS.items()
    ],
)
musl = pytest.mark.skipif(find_spec("ziglang") is None, reason="needs the extra cross")


def run_here(program: Path, target: Target, words: Sequence[str]) -> Done:
    started = [str(program)] if target.runs_here() else qemu.command(target, program)
    return subprocess.run(
        [*started, *words], cwd=program.parent, capture_output=True, text=True, check=False
    )


def written_image(graph: IntGraph, folder: Path) -> str:
    """Write a random image for ``classify``; return what it has to print."""
    inputs = random_input(graph, 0)
    scores = reference.run(graph, inputs)[graph.outputs[0]].reshape(-1)
    (folder / "image.f32").write_bytes(inputs[graph.inputs[0]].tobytes())
    order = np.argsort(-scores, kind="stable")[:5]
    return "".join(f"{number:5d} {scores[number]:9.5f}\n" for number in order)


@everywhere
@pytest.mark.parametrize("form", [STATIC, NAMED], ids=["read", "named"])
def test_the_example_prints_the_reference(form: Form, name: str, tmp_path: Path) -> None:
    graph, target, program = random_graph(SEED, exact=True), find(name), tmp_path / "classify"
    build(graph, target, tmp_path, form=form)
    expected = written_image(graph, tmp_path)
    flags = (*STRICT, f"-I{tmp_path}", str(tmp_path / "model.a"), *LINKED)
    compile_program(tmp_path / EXAMPLE, target, program, flags)
    if form.embed_params:
        (tmp_path / "params.bin").unlink()
    for threads in ("1", "3"):
        done = run_here(program, target, ("image.f32", threads))
        assert (done.returncode, done.stderr, done.stdout) == (0, "", expected)


@everywhere
def test_the_example_with_the_shared_library(name: str, tmp_path: Path) -> None:
    graph, target, program = random_graph(SEED, exact=True), find(name), tmp_path / "classify"
    build(graph, target, tmp_path, form=EMBEDDED)
    expected = written_image(graph, tmp_path)
    flags = (f"-I{tmp_path}", str(tmp_path / "model.so"), "-Wl,-rpath,$ORIGIN")
    compile_program(tmp_path / EXAMPLE, target, program, flags)
    done = run_here(program, target, ("image.f32",))
    assert (done.returncode, done.stderr, done.stdout) == (0, "", expected)


def test_a_static_program(tmp_path: Path) -> None:
    graph, target, program = random_graph(SEED, exact=True), find("native"), tmp_path / "classify"
    build(graph, target, tmp_path, form=EMBEDDED)
    expected = written_image(graph, tmp_path)
    flags = ("-static", f"-I{tmp_path}", str(tmp_path / "model.a"), *LINKED)
    compile_program(tmp_path / EXAMPLE, target, program, flags)
    assert run_here(program, target, ("image.f32", "2")).stdout == expected


@musl
@pytest.mark.parametrize(
    ("name", "triple"),
    [("arm64", "aarch64-linux-musl"), ("armv7", "arm-linux-musleabihf")],
)
def test_a_static_program_for_a_board(name: str, triple: str, tmp_path: Path) -> None:
    graph, target, program = random_graph(SEED, exact=True), find(name), tmp_path / "classify"
    if (reason := qemu.missing(target)) is not None:
        pytest.skip(reason)
    build(graph, target, tmp_path, form=EMBEDDED)
    expected = written_image(graph, tmp_path)
    zig = (sys.executable, "-m", "ziglang", "cc", "-target", triple, "-static", "-O2", "-g0")
    words = [
        *zig,
        f"-I{tmp_path}",
        tmp_path / EXAMPLE,
        tmp_path / "model.a",
        *LINKED,
        "-o",
        program,
    ]
    subprocess.run(words, check=True)
    assert run_here(program, target, ("image.f32", "2")).stdout == expected


@pytest.mark.parametrize("name", NAMES)
def test_only_the_entry_points_are_global(name: str, tmp_path: Path) -> None:
    build(random_graph(SEED), find(name), tmp_path, form=STATIC)
    defined, needed = global_symbols(tmp_path / "model.a")
    assert defined == ENTRIES
    assert {name for name in needed if not name.startswith(COMPILERS)} <= NEEDED
    (tmp_path / "embedded").mkdir()
    build(random_graph(SEED), find(name), tmp_path / "embedded", form=EMBEDDED)
    assert global_symbols(tmp_path / "embedded" / "model.a")[0] == {*ENTRIES, PARAMS_ENTRY}


def test_only_classifiers_have_the_example(tmp_path: Path) -> None:
    build(random_graph(4), find("native"), tmp_path, form=STATIC)
    assert not (tmp_path / EXAMPLE).exists()
    assert classify_program(random_graph(4)) is None


def test_archives_are_repeatable(tmp_path: Path) -> None:
    found = []
    for _ in range(2):
        build(random_graph(SEED), find("native"), tmp_path, form=EMBEDDED)
        found.append((tmp_path / "model.a").read_bytes())
    assert found[0] == found[1]


def test_files_of_another_size_are_told(tmp_path: Path) -> None:
    graph, target, program = random_graph(SEED, exact=True), find("native"), tmp_path / "classify"
    build(graph, target, tmp_path, form=STATIC)
    written_image(graph, tmp_path)
    flags = (f"-I{tmp_path}", str(tmp_path / "model.a"), *LINKED)
    compile_program(tmp_path / EXAMPLE, target, program, flags)
    (tmp_path / "short.f32").write_bytes(b"1234")
    for words, told in (
        (("short.f32",), "short.f32: is not of"),
        (("none.f32",), "none.f32: No such file"),
        (("image.f32", "1", "image.f32"), "image.f32: is not of"),
        (("image.f32", "0"), "0: threads: give 1 to 256"),
        ((), "usage: "),
    ):
        done = run_here(program, target, words)
        assert done.returncode == 2
        assert told in done.stderr
