"""A client that is TVM's own loads a library of TVM's, and runs it on tensors of the board."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tvm
from tvm import rpc
from tvm.script import tirx as T  # noqa: N812 - TVMScript

from tests.support.boards import StartBoard


@T.prim_func
def doubled(A: T.Buffer((8,), "int32"), B: T.Buffer((8,), "int32")) -> None:  # noqa: N803
    for i in range(8):
        B[i] = A[i] * 2


def test_a_library_of_tvm_runs(start_board: StartBoard, tmp_path: Path) -> None:
    board = start_board(None, key="rpi")
    library = tmp_path / "doubled.so"
    tvm.compile(doubled, target="llvm").export_library(str(library))
    remote = rpc.connect("127.0.0.1", board.port, key="rpi", session_timeout=60)
    remote.upload(bytearray(library.read_bytes()), "doubled.so")
    module = remote.load_module("doubled.so")
    codes = tvm.runtime.tensor(np.arange(8, dtype=np.int32), remote.cpu())
    result = tvm.runtime.empty((8,), "int32", remote.cpu())
    module["doubled"](codes, result)
    np.testing.assert_array_equal(result.numpy(), np.arange(8) * 2)
    timer = module.time_evaluator("doubled", remote.cpu(), number=1, repeat=2)
    assert len(timer(codes, result).results) == 2
