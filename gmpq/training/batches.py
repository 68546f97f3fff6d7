"""Batches of an epoch, of which every process takes its part."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from gmpq.inputs.images import Images
from gmpq.training.augment import Draw
from gmpq.training.processes import rank, world_size

Batch: TypeAlias = tuple[torch.Tensor, torch.Tensor]  # images [N, C, H, W], labels [N]

FASTEST = torch.channels_last  # of images; a convolution gives what it takes


def whole_batch(images: int, batch: int) -> int:
    """Return how many of ``images`` a step sees, in all processes; ``batch`` at most."""
    return max(1, min(batch, images) // world_size()) * world_size()


def steps_per_epoch(images: int, batch: int) -> int:
    """Return the steps of an epoch; what fills no batch waits for the next epoch's order."""
    return max(1, images // whole_batch(images, batch))


def training_batches(
    draw: Draw, batch: int, steps: int | None = None, workers: int = 0
) -> Iterator[Batch]:
    """Yield this process's part of the first ``steps`` batches of an epoch, or of all.

    A batch is float32 images [N, C, H, W] and int64 labels [N]. ``batch`` counts images over
    all processes. ``workers`` threads read ahead.
    """
    whole, order = whole_batch(len(draw.data), batch), draw.order()
    mine = whole // world_size()
    count = steps_per_epoch(len(draw.data), batch) if steps is None else steps
    starts = range(rank() * mine, count * whole, whole)
    for images, labels in _ahead(draw, [order[start : start + mine] for start in starts], workers):
        yield _fastest(images), torch.from_numpy(labels)


def plain_batches(images: Images, batch: int) -> Iterator[Batch]:
    """Yield all images in order, without augmentation; the last batch may be smaller.

    A batch is float32 images [N, C, H, W] and int64 labels [N].
    """
    start = 0
    for inputs in images.batches(batch):
        yield _fastest(inputs), torch.from_numpy(images.labels[start : start + len(inputs)])
        start += len(inputs)


def _fastest(inputs: NDArray[np.float32]) -> torch.Tensor:
    return torch.from_numpy(inputs).to(memory_format=FASTEST)


def _ahead(
    draw: Draw, parts: list[NDArray[np.int64]], workers: int
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    if workers == 0:
        yield from (draw.batch(part.tolist()) for part in parts)
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting = [pool.submit(draw.batch, part.tolist()) for part in parts[: 2 * workers]]
        for index in range(len(parts)):
            following = index + len(waiting)
            found = waiting.pop(0).result()
            if following < len(parts):
                waiting.append(pool.submit(draw.batch, parts[following].tolist()))
            yield found
