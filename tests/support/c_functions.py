"""One function of the code generator, called from Python."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import transform
from tvm.tirx import PrimFunc
from tvm.tirx import transform as tirx

from gmpq.backends.tvm.codegen.cpu import LOWERING
from gmpq.backends.tvm.target.cpu import CpuTarget

Array = NDArray[np.generic]


def compiled(function: PrimFunc, target: CpuTarget, folder: Path) -> Callable[..., None]:
    """Return a call of ``function`` on arrays, its pointers in turn."""
    llvm = target.tvm()
    module = tvm.IRModule({"kernel": function.with_attr("global_symbol", "kernel")})
    lowered = transform.Sequential([tirx.BindTarget(llvm.with_host(llvm)), *LOWERING])(module)
    parts, library = folder / "kernel.o", folder / "kernel.so"
    tvm.get_global_func("target.build.llvm")(lowered, llvm).write_to_file(str(parts))
    subprocess.run([target.compiler, "-shared", parts, "-o", library], check=True)
    loaded = ctypes.CDLL(str(library))

    def call(*arrays: Array) -> None:
        assert loaded.kernel(*(ctypes.c_void_p(array.ctypes.data) for array in arrays)) == 0

    return call
