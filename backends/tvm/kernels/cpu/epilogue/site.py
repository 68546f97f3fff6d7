"""What becomes of the accumulators of a convolution or a fully connected layer at a site."""

from __future__ import annotations

from gmpq.backends.tvm.kernels.base import Site, Tensor
from gmpq.backends.tvm.kernels.cpu.epilogue.epilogue import Finish, Output
from gmpq.backends.tvm.kernels.cpu.epilogue.requant_bounds import STEPS, largest_step
from gmpq.backends.tvm.kernels.cpu.epilogue.requantized_copy import Copy
from gmpq.backends.tvm.kernels.cpu.epilogue.residual import Residual
from gmpq.backends.tvm.kernels.cpu.isa.x86 import multiplied_lanes
from gmpq.ir import Conv2d, Linear


def finish_of(site: Site) -> Finish:
    """Return the requantization, the residual addition and the copies of ``site``."""
    residual = None
    if site.addition is not None:
        residual = Residual(site.addition.term.codes, site.addition.term.q, site.result.q)
    outputs = tuple(_stored_as(site, tensor) for tensor in site.results)
    return Finish(outputs, site.output.value.q, residual, _packed_lanes(site))


def _stored_as(site: Site, tensor: Tensor) -> Output:
    if tensor is site.result:
        return Output(tensor.codes)
    copy = Copy.between(site.result.q, tensor.q)
    assert copy is not None, "fuse takes copies that one factor makes"
    return Output(tensor.codes, copy)


def _packed_lanes(site: Site) -> int | None:
    assert isinstance(site.node, Conv2d | Linear)
    q = site.output.value.q
    if q is None:
        return None
    steps = largest_step(site.node.weight, site.inputs[0].q, q)
    return multiplied_lanes(site.target) if steps < STEPS else None
