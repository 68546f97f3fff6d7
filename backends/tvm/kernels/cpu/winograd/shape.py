"""Sizes of a Winograd convolution, and how threads share it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gmpq.backends.tvm.kernels.base import Work
from gmpq.backends.tvm.kernels.cpu.winograd.dot import DotProduct
from gmpq.backends.tvm.kernels.cpu.winograd.products import Product
from gmpq.backends.tvm.kernels.cpu.winograd.register_tiles import ProductSizes
from gmpq.backends.tvm.kernels.cpu.winograd.transforms import Transform
from gmpq.backends.tvm.kernels.cpu.winograd.weights_on_the_fly import OnTheFlyWeights
from gmpq.backends.tvm.kernels.cpu.winograd.x86_bytes import ByteProduct
from gmpq.backends.tvm.kernels.layout import Layout

NEAR_BYTES = 384 << 10  # of weights that stay in the second-level cache
MOST_PARTS = 4  # of the outputs, where the blocks of tiles alone are too few for threads


@dataclass(frozen=True, slots=True)
class WinogradShape:
    """Sizes that the loops run over."""

    transform: Transform
    x: Layout
    y: Layout
    padding: tuple[int, int]  # top, left
    fold: int  # rows and columns of codes in one pixel
    tiles: int  # of one block
    splits: tuple[int, ...]

    @property
    def across(self) -> int:
        """Tiles along a row."""
        return -(-self.y.width // self.transform.size)

    @property
    def all_tiles(self) -> int:
        """Tiles of one image."""
        return -(-self.y.height // self.transform.size) * self.across

    @property
    def blocks(self) -> int:
        """Blocks of tiles, of all images."""
        return self.x.batch * -(-self.all_tiles // self.tiles)

    @property
    def stored(self) -> int:
        """Channels of one pixel in V."""
        return self.x.stored if self.fold == 1 else self.x.channels * self.fold * self.fold

    @property
    def sizes(self) -> ProductSizes:
        """What the products of one position run over."""
        channels = self.stored if self.fold > 1 else self.x.channels
        return ProductSizes(self.tiles, channels, self.stored, self.y.channels)


@dataclass(frozen=True, slots=True)
class Schedule:
    """How the products of a shape are computed; each task transforms weights ``on_the_fly``."""

    shape: WinogradShape
    product: Product
    on_the_fly: OnTheFlyWeights | None = None
    least_parts: int = 1  # however few the outputs are

    def __str__(self) -> str:
        text = f"{self.shape.transform}, {self.shape.tiles} tiles, {self.product}"
        if self.shape.splits:
            text = f"{text}, {len(self.shape.splits)} positions twice"
        if self.on_the_fly is not None:
            text = f"{text}, {self.on_the_fly}"
        return text if self.least_parts == 1 else f"{text}, in {self.parts} parts"

    @property
    def interleaved(self) -> bool:
        """Whether products of a group and the transform of the next one's kernels alternate."""
        return self.on_the_fly is not None and self.on_the_fly.interleaved

    @property
    def groups(self) -> int:
        """The groups of outputs that follow each other."""
        return -(-self.product.all_vectors // self.product.vectors)

    @property
    def share(self) -> int:
        """The groups of outputs of one part, of which each transforms the input again."""
        worth = self.shape.y.channels // self.product.fewest_outputs
        cheap = 1 if self.interleaved else min(MOST_PARTS // self.shape.blocks, worth)
        return -(-self.groups // max(self.least_parts, cheap))

    @property
    def parts(self) -> int:
        """Into how many parts threads share the groups of outputs of one block."""
        return -(-self.groups // self.share)

    @property
    def tasks(self) -> int:
        """The work items that threads share."""
        return self.shape.blocks * self.parts

    def shared(self, threads: int) -> Schedule | None:
        """Return the schedule with work for all ``threads`` threads; None where it has that.

        And where a part would be a single group, whose kernels no products come before.
        """
        found = replace(self, least_parts=-(-threads // self.shape.blocks))
        if self.interleaved and found.share == 1:
            return None
        return found if self.tasks < threads <= found.tasks else None

    @property
    def input_elements(self) -> int:
        """The int32 of V."""
        return self.shape.transform.positions * self.product.input_pitch

    @property
    def sums(self) -> int:
        """The int32 of M."""
        return self.shape.transform.positions * self.product.output_pitch

    @property
    def passes(self) -> int:
        """Products per tile and input channel."""
        return self.shape.transform.positions + len(self.shape.splits)

    @property
    def work(self) -> Work:
        """What all passes multiply, without padding channels."""
        shape = self.shape
        codes = shape.x.batch * shape.all_tiles * shape.x.channels * shape.fold * shape.fold
        return Work(self.passes * codes * shape.y.channels, self.product.instruction)

    @property
    def scratch_bytes(self) -> int:
        """The bytes of V and M, and of transformed weights."""
        item = np.dtype(self.product.dtype).itemsize
        return 4 * (self.input_elements + self.sums) + item * self.kept_weights

    @property
    def kept_weights(self) -> int:
        """The transformed weights that a task keeps."""
        weights = self.on_the_fly
        return 0 if weights is None else weights.buffers * weights.elements

    @property
    def group_elements(self) -> int:
        """The weights of one group of outputs."""
        if isinstance(self.product, ByteProduct):
            return self.product.group_elements
        return self.passes * self.product.block_elements

    @property
    def weights_elements(self) -> int:
        """The weights in memory; packed ones count by bytes."""
        if self.on_the_fly is not None:
            return self.groups * self.on_the_fly.group_bytes
        return self.groups * self.group_elements

    @property
    def prefetches_weights(self) -> bool:
        """Return whether products prefetch weights, which no second-level cache holds."""
        far = self.on_the_fly is not None or self.weights_bytes > NEAR_BYTES
        return far and isinstance(self.product, DotProduct | ByteProduct)

    @property
    def weights_bytes(self) -> int:
        """The bytes of all weights in memory."""
        item = np.dtype(self.product.dtype).itemsize if self.on_the_fly is None else 1
        return item * self.weights_elements


def interleaved(schedules: list[Schedule]) -> list[Schedule]:
    """Return those of dot products, with transforms of kernels between them, of several groups."""
    found = [
        replace(schedule, on_the_fly=replace(schedule.on_the_fly, interleaved=True))
        for schedule in schedules
        if schedule.on_the_fly is not None and isinstance(schedule.product, DotProduct)
    ]
    return [schedule for schedule in found if schedule.share > 1]
