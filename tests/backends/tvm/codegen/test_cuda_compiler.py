"""Compilers of CUDA C: nvcc, NVRTC, neither; and what their programs take of a GPU."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from gmpq.backends.tvm.codegen import cuda_compiler
from gmpq.backends.tvm.codegen.cuda_compiler import _by_nvrtc, cubin, find_nvrtc
from gmpq.backends.tvm.codegen.cuda_source import emit
from gmpq.backends.tvm.plan.plan import plan
from gmpq.backends.tvm.target import GpuTarget
from gmpq.backends.tvm.target.gpu import ROWS
from gmpq.errors import TargetError
from tests.support.gpu.layers import random_layer

TEXT = 'extern "C" __global__ void f(int *x) { x[threadIdx.x] = 1; }'
WRONG = 'extern "C" __global__ void f(int *x) { x[0] = y; }'
nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not on PATH")
nvrtc = pytest.mark.skipif(find_nvrtc() is None, reason="the extra 'cuda' is not installed")


@nvcc
def test_nvcc_makes_machine_code() -> None:
    assert cubin(TEXT, "sm_80").startswith(b"\x7fELF")


@nvrtc
def test_nvrtc_makes_machine_code() -> None:
    found = find_nvrtc()
    assert found is not None
    assert _by_nvrtc(found, TEXT, "sm_80").startswith(b"\x7fELF")
    with pytest.raises(TargetError, match=r'NVRTC cannot compile for sm_80: .*"y"'):
        _by_nvrtc(found, WRONG, "sm_80")


@nvcc
def test_an_error_is_one_line() -> None:
    with pytest.raises(TargetError, match=r'^nvcc cannot compile for sm_80: .*"y" is undefined$'):
        cubin(WRONG, "sm_80")
    with pytest.raises(TargetError, match=r"^nvcc cannot compile for sm_10: .*sm_10'$"):
        cubin(TEXT, "sm_10")


def test_without_a_compiler_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_compiler, "find_nvrtc", lambda: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(TargetError, match=r"no compiler of CUDA C for sm_80: put nvcc on PATH, or"):
        cubin(TEXT + "// once", "sm_80")


@nvcc
@pytest.mark.parametrize("target", ROWS, ids=[target.name for target in ROWS])
def test_kernels_spill_nothing(target: GpuTarget, tmp_path: Path) -> None:
    graph = random_layer(np.random.default_rng(5), (8, 4))
    source = emit(graph, plan(graph, target), target).text
    (tmp_path / "kernels.cu").write_text(source)
    command = ["nvcc", "-cubin", "-std=c++17", f"-arch={target.arch}", "-Xptxas", "-v"]
    done = subprocess.run(
        [*command, "kernels.cu"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    spills = re.findall(r"(\d+) bytes spill stores", done.stderr)
    assert spills
    assert set(spills) == {"0"}
