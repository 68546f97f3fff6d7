"""One search in several processes, as torchrun starts them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among ``count``; only ``rank`` 0 writes and tells."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0


ALONE = Ranks()


@contextmanager
def joined(ranks: Ranks) -> Iterator[None]:
    """Join the processes that torchrun started, if there is more than one."""
    if ranks.count == 1:
        yield
        return
    distributed.init_process_group("gloo", rank=ranks.rank, world_size=ranks.count)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def parallel(module: nn.Module, ranks: Ranks) -> nn.Module:
    """Return ``module`` such that all processes see the mean of their gradients."""
    if ranks.count == 1:
        return module
    return cast("nn.Module", DistributedDataParallel(module))


def total(values: torch.Tensor, ranks: Ranks) -> torch.Tensor:
    """Return the sum of ``values`` over all processes."""
    if ranks.count > 1:
        distributed.all_reduce(values)
    return values


def wait(ranks: Ranks) -> None:
    """Wait until all processes are here."""
    if ranks.count > 1:
        distributed.barrier()
