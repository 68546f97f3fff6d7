"""Which modules and tensors can be read: plain numbers in memory, and code in Python."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from gmpq.errors import LoweringError

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_module(module: nn.Module) -> None:
    """Pass a module that can be given weights and traced.

    Raises:
        LoweringError: it is TorchScript, or a parameter or buffer is not a plain tensor.
    """
    if isinstance(module, torch.jit.ScriptModule):
        raise LoweringError(
            f"{module.original_name}: is TorchScript: give the nn.Module that it was made from"
        )
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if is_lazy(tensor):
            raise LoweringError(
                f"{name}: a lazy layer does not know its shape: "
                "run the network once on an input before it is returned"
            )
        oddity = oddity_of(tensor)
        if oddity is not None:
            raise LoweringError(f"{name}: is {oddity}: make the network of plain float32 tensors")


def oddity_of(tensor: torch.Tensor) -> str | None:
    """Return what keeps the values of ``tensor``, of any shape, from being read, or None."""
    if tensor.is_meta:
        return "a meta tensor, without values"
    if tensor.is_quantized:
        return f"quantized ({_name(tensor.dtype)})"
    if tensor.is_nested:
        return "nested"
    if tensor.layout != torch.strided:
        return f"sparse ({_name(tensor.layout)})"
    if tensor.is_floating_point() and tensor.dtype not in FLOATS:
        return f"of type {_name(tensor.dtype)}"
    return None


def _name(kind: torch.dtype | torch.layout) -> str:
    return str(kind).removeprefix("torch.")
