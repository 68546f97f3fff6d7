"""The same QDQ file in onnxruntime's build for 64-bit ARM, emulated, equals the reference."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest

from gmpq.backends import reference
from gmpq.export.onnx import expose, to_onnx
from tests.support.strategies import random_graph, random_input

ROOT = Path(__file__).parents[3]
USERLAND = Path(os.environ.get("GMPQ_ARM64", ROOT / "out" / "arm64"))
RUNNER = ROOT / "tests" / "arm64" / "run_model.py"
pytestmark = [
    pytest.mark.arm,
    pytest.mark.skipif(
        not (USERLAND / "ready").exists(),
        reason="make test-arm installs onnxruntime for 64-bit ARM",
    ),
]


def run(folders: list[Path], cpu: str) -> None:
    """Let onnxruntime run the model of every folder on an emulated processor."""
    root, version = USERLAND / "root", (USERLAND / "ready").read_text().strip()
    python = str(root / "usr" / "bin" / f"python{version}")
    places = {"PYTHONHOME": str(root / "usr"), "PYTHONPATH": str(USERLAND / "site")}
    done = subprocess.run(
        ["qemu-aarch64", "-cpu", cpu, "-L", str(root), python, str(RUNNER), *map(str, folders)],
        env={**os.environ, **places},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("cpu", ["cortex-a72", "cortex-a76"])
def test_every_code_equals_the_reference(cpu: str, tmp_path: Path) -> None:
    graphs = {tmp_path / str(seed): random_graph(seed, exact=True) for seed in range(6)}
    expected = {}
    for seed, (folder, graph) in enumerate(graphs.items()):
        folder.mkdir()
        inputs = random_input(graph, seed)
        expected[folder] = reference.run(graph, inputs)
        onnx.save(expose(to_onnx(graph), graph), folder / "model.onnx")
        np.savez(folder / "inputs.npz", **inputs)
    run(list(graphs), cpu)
    for folder, graph in graphs.items():
        with np.load(folder / "outputs.npz") as found:
            assert {name for name, value in graph.values.items() if value.q} <= set(found)
            for name, values in found.items():
                np.testing.assert_array_equal(values, expected[folder][name], err_msg=name)
