"""Several processes that train one network: who we are, and sums over all of us."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel


def world_size() -> int:
    """Return how many processes train together; 1 without torchrun."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Return which of the processes this is, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


@contextmanager
def joined() -> Iterator[None]:
    """Join the processes that torchrun started, if it did, for the length of the block."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def wait() -> None:
    """Wait until all processes are here."""
    if world_size() > 1:
        distributed.barrier()


def parallel(module: nn.Module, *, buffers: bool = True, unused: bool = False) -> nn.Module:
    """Return ``module`` such that all processes see the mean of their gradients.

    Args:
        module: the same in all processes.
        buffers: whether all take the buffers of the first process at each step.
        unused: whether some of its parameters do not take part in some outputs.
    """
    if world_size() == 1:
        return module
    wrapped: nn.Module = DistributedDataParallel(
        module, broadcast_buffers=buffers, find_unused_parameters=unused
    )
    return wrapped


def all_sum(x: torch.Tensor) -> torch.Tensor:
    """Return the sum of ``x`` [...] over all processes; its gradient is summed likewise."""
    if world_size() == 1:
        return x
    total: torch.Tensor = _AllSum.apply(x)  # type: ignore[no-untyped-call]
    return total


class _AllSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        total = x.detach().clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        total = gradients[0].clone()
        distributed.all_reduce(total)
        return total
