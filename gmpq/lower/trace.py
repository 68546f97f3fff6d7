"""The seam to ``torch.export``: a module becomes a functional graph of ATen operators."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.export import ExportedProgram

from gmpq.errors import LoweringError
from gmpq.ir import Shape

# What a forward function written by a user raises, and what torch.export adds (all RuntimeErrors).
FORWARD_ERRORS = (
    RuntimeError,
    TypeError,
    ValueError,
    AttributeError,
    LookupError,
    ArithmeticError,
    AssertionError,
    ImportError,
)


def trace(module: nn.Module, shape: Shape) -> ExportedProgram:
    """Return ``module`` in evaluation mode as ATen operators without in-place changes.

    An empty table of decompositions leaves convolutions, linear layers and pooling whole, and
    makes ``relu_`` and ``+=`` functional, with every alias of what they change renamed.

    Raises:
        LoweringError: ``torch.export`` or the module's own forward fails on ``shape``.
    """
    example = (torch.zeros(shape),)
    with _evaluation(module), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about its own internals
        try:
            program: ExportedProgram = torch.export.export(module, example, strict=False)
            functional: ExportedProgram = program.run_decompositions({})
        except FORWARD_ERRORS as error:
            raise LoweringError(
                f"{type(module).__name__}: torch.export fails on one input of shape {shape}: "
                f"{_first_line(error)}"
            ) from error
    return functional


@contextmanager
def _evaluation(module: nn.Module) -> Iterator[None]:
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
