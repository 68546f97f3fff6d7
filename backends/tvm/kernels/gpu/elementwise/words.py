"""One thread per word: four channels of one pixel."""

from __future__ import annotations

from dataclasses import dataclass

from gmpq.backends.tvm.kernels.gpu.isa.builder import WORD, Expr
from gmpq.backends.tvm.kernels.layout import Layout


@dataclass(frozen=True, slots=True)
class Place:
    """A pixel of an image, and the word of its channels."""

    image: Expr
    row: Expr
    column: Expr
    word: Expr

    def in_words(self, layout: Layout) -> Expr:
        """Return the place of the word in a value of this layout, counted as uint32."""
        return pixel_start(layout, self.image, self.row, self.column) // WORD + self.word


def words_of(y: Layout) -> int:
    """Return the words of all pixels of a value, without its halo."""
    return y.batch * y.height * y.width * (y.stored // WORD)


def place_of(item: Expr, y: Layout) -> Place:
    """Return the place of word ``item``."""
    words = y.stored // WORD
    pixel = item // words
    image, rest = pixel // (y.height * y.width), pixel % (y.height * y.width)
    return Place(image, rest // y.width, rest % y.width, item % words)


def pixel_start(layout: Layout, image: Expr, row: Expr, column: Expr) -> Expr:
    """Return the place of the first code of a pixel."""
    return layout.origin + image * layout.image + row * layout.row + column * layout.stored
