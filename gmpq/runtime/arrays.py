"""Arrays as a compiled network takes them."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gmpq.program import TensorSpec

Floats: TypeAlias = NDArray[np.float32]
Tensor: TypeAlias = NDArray[Any]


def checked_array(array: object, spec: TensorSpec) -> Floats:
    """Return an input as the program reads it: in one piece, aligned; copied if it is not.

    It is float32, in the shape of ``spec``.

    Raises:
        TypeError: It is no numpy array.
        ValueError: It has another shape or type.
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(_refusal(array, spec))
    if array.dtype != np.float32 or array.shape != spec.shape:
        raise ValueError(_refusal(array, spec))
    flags = array.flags
    return array if flags.c_contiguous and flags.aligned else array.copy(order="C")


def _refusal(given: object, spec: TensorSpec) -> str:
    """Return why ``given`` is no input, and what to pass instead."""
    wanted = f"input {spec.name!r} must be a numpy array, {spec.dtype} {list(spec.shape)}, got"
    match given:
        case np.ndarray() if given.dtype != np.float32:
            return f"{wanted} {given.dtype}: pass x.astype(np.float32)"
        case np.ndarray():
            cure = ": pass x[None]" if (1, *given.shape) == spec.shape else ""
            return f"{wanted} {list(given.shape)}{cure}"
    kind = type(given)
    cure = "x.numpy(force=True)" if kind.__module__ == "torch" else "np.asarray(x, np.float32)"
    return f"{wanted} {kind.__module__}.{kind.__qualname__}: pass {cure}"


def pointers(arrays: Sequence[Tensor]) -> Any:
    """Return the addresses of arrays of any shape as a C array."""
    return (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))
