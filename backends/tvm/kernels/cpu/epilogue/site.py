"""What becomes of the accumulators of a convolution or a fully connected layer at a site."""

from __future__ import annotations

from gmpq.backends.tvm.kernels.base import Tensor
from gmpq.backends.tvm.kernels.cpu.epilogue.epilogue import Epilogue, EpilogueOutput
from gmpq.backends.tvm.kernels.cpu.epilogue.requant_bounds import STEPS, largest_step
from gmpq.backends.tvm.kernels.cpu.epilogue.requantized_copy import RequantizedCopy
from gmpq.backends.tvm.kernels.cpu.epilogue.residual import Residual
from gmpq.backends.tvm.kernels.cpu.isa.site import Site
from gmpq.backends.tvm.kernels.cpu.isa.x86 import vpmaddubsw_lanes
from gmpq.ir import Conv2d, Linear


def epilogue_of(site: Site) -> Epilogue:
    """Return the requantization, the residual addition and the copies of ``site``."""
    residual = None
    if site.addition is not None:
        residual = Residual(site.addition.term.codes, site.addition.term.q, site.result.q)
    outputs = tuple(_stored_as(site, tensor) for tensor in site.results)
    return Epilogue(outputs, site.output.value.q, residual, _narrowed_lanes(site))


def _stored_as(site: Site, tensor: Tensor) -> EpilogueOutput:
    if tensor is site.result:
        return EpilogueOutput(tensor.codes)
    copy = RequantizedCopy.between(site.result.q, tensor.q)
    assert copy is not None, "fuse takes copies that one factor makes"
    return EpilogueOutput(tensor.codes, copy)


def _narrowed_lanes(site: Site) -> int | None:
    assert isinstance(site.node, Conv2d | Linear)
    q = site.output.value.q
    if q is None:
        return None
    steps = largest_step(site.node.weight, site.inputs[0].q, q)
    return vpmaddubsw_lanes(site.target) if steps < STEPS else None
