"""Sessions ask for slower kernels only where others saturate, and write nothing anywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gmpq.backends import reference
from gmpq.backends.host import Host
from gmpq.backends.ort import session
from gmpq.backends.ort.program import OrtProgram
from gmpq.backends.ort.session import Options, could_saturate, precision_setting
from gmpq.export.onnx import to_onnx
from gmpq.ir import Conv2d, IntGraph, QParams, Window
from tests.support.builders import Q8, chain, weight
from tests.support.strategies import random_input

ROOT = Path(__file__).parents[3]
AVX2 = Host("x86_64", "any", 1, frozenset({"avx2"}))
VNNI = Host("x86_64", "any", 1, frozenset({"avx2", "avx_vnni"}))


def layer(w: int, a: int) -> IntGraph:
    """Return a convolution whose weights are the largest and the smallest in turn."""
    q = QParams.full(0.03, 0, a)
    made = weight((8, 16, 3, 3), w, q, Q8)
    largest = max(1, 2 ** (w - 1) - 1)
    made.codes[:] = np.where(np.arange(8) % 2, -largest, largest)[:, None, None, None]
    conv = Conv2d("conv", ("",), "", made, Window((3, 3)))
    return chain([(conv, (1, 8, 5, 5), Q8)], (1, 16, 7, 7), q)


@pytest.mark.parametrize("w", range(1, 9))
@pytest.mark.parametrize("a", range(1, 9))
def test_which_bits_could_saturate(w: int, a: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "host", lambda: AVX2)
    assert could_saturate(layer(w, a)) is (w + a > 15)
    assert Options().exact
    monkeypatch.setattr(session, "host", lambda: VNNI)
    assert not could_saturate(layer(w, a))
    assert not Options().exact


@pytest.mark.parametrize("exact", [False, True])
def test_the_setting_is_told_and_computes_the_same(exact: bool) -> None:
    # With few bits both kinds of kernels are exact on every machine.
    graph = layer(7, 8)
    program = OrtProgram.from_model(to_onnx(graph), graph, Options(exact=exact))
    inputs = random_input(graph, 0)
    expected = reference.run(graph, inputs)
    for name, codes in program.trace(inputs).items():
        np.testing.assert_array_equal(expected[name], codes, err_msg=name)
    assert precision_setting(exact=exact) == f"session.x64quantprecision={int(exact)}"


def test_nothing_is_written_into_the_home(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(to_onnx(layer(4, 4)).SerializeToString())
    script = (
        "import pathlib\n"
        "from gmpq.backends.ort.session import open_session\n"
        "open_session(pathlib.Path('model.onnx').read_bytes())\n"
    )
    homes = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG")}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=kept | homes, check=True)
    assert [path.name for path in tmp_path.rglob("*")] == ["model.onnx"]
