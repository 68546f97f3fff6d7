"""Sizes of a Winograd convolution, and how threads share it."""

from __future__ import annotations

from dataclasses import dataclass

from gmpq.backends.tvm.kernels.base import Work
from gmpq.backends.tvm.kernels.winograd_algebra import Transform
from gmpq.backends.tvm.kernels.winograd_product import Product
from gmpq.backends.tvm.layout import Layout

MOST_PARTS = 4  # of the outputs, where the blocks of tiles alone are too few for threads


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes that the loops run over."""

    transform: Transform
    x: Layout
    y: Layout
    padding: tuple[int, int]  # top, left
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

    def work(self, product: Product) -> Work:
        """Return what all positions, and those of split weights once more, multiply."""
        passes = self.transform.positions + len(self.splits)
        tiles = self.x.batch * self.all_tiles
        return Work(passes * tiles * self.x.channels * self.y.channels, product.instruction)

    def groups(self, product: Product) -> int:
        """Return the groups of outputs that follow each other."""
        return -(-product.all_vectors // product.vectors)

    def parts(self, product: Product) -> int:
        """Return into how many parts threads share the groups of outputs of one block.

        Each part transforms the input again.
        """
        worth = self.y.channels // product.fewest_outputs
        return max(1, min(MOST_PARTS // self.blocks, worth, self.groups(product)))

    def words(self, product: Product) -> int:
        """Return the int32 of V."""
        return self.transform.positions * self.tiles * self.x.stored // product.group

    def sums(self, product: Product) -> int:
        """Return the int32 of M."""
        return self.transform.positions * self.tiles * product.vectors * product.lanes

    def scratch_bytes(self, product: Product) -> int:
        """Return the bytes of V and M."""
        return 4 * (self.words(product) + self.sums(product))
