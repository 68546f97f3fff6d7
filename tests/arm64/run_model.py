"""Run by the Python of ``install.sh``: every output of models as onnxruntime computes it there.

    python3 run_model.py FOLDER...

In each folder ``model.onnx`` reads ``inputs.npz`` and writes ``outputs.npz``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime


def run(folder: Path) -> None:
    """Write the outputs by name."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options)
    names = [output.name for output in session.get_outputs()]
    with np.load(folder / "inputs.npz") as given:
        found = session.run(names, dict(given))
    np.savez(folder / "outputs.npz", **dict(zip(names, found, strict=True)))


if __name__ == "__main__":
    for name in sys.argv[1:]:
        run(Path(name))
