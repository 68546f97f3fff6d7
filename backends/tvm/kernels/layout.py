"""How the codes of a value lie in memory: [N, H, W, C] with a halo and padded channels.

A convolution reads its padding from memory: the producer of a value leaves ``halo`` rows and
columns around each image, filled with the zero point, so that no layer copies its input to pad it.
Channels are padded to whole vectors; what lies in the padding channels is unspecified, and every
reader multiplies it by zero or drops it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gmpq.backends.tvm.target import LayoutRules
from gmpq.ir import NO_PADDING, Conv2d, IntGraph, Node, Padding, Quantize, Shape, Value, Window


@dataclass(frozen=True, slots=True)
class Layout:
    """Sizes of a value in memory, in elements."""

    batch: int
    channels: int  # that mean something
    height: int
    width: int
    stored: int  # channels with padding
    halo: Padding = NO_PADDING

    @property
    def row(self) -> int:
        """Distance between rows."""
        return (self.width + self.halo.left + self.halo.right) * self.stored

    @property
    def image(self) -> int:
        """Distance between images."""
        return (self.height + self.halo.top + self.halo.bottom) * self.row

    @property
    def origin(self) -> int:
        """Distance from the start of the memory to the first element of the first image."""
        return self.halo.top * self.row + self.halo.left * self.stored

    @property
    def size(self) -> int:
        """Elements of all images."""
        return self.batch * self.image

    @property
    def size_bytes(self) -> int:
        """Bytes of all images of codes."""
        return self.size


def layouts(graph: IntGraph, rules: LayoutRules) -> dict[str, Layout]:
    """Return the layout of every value of codes by the rules of a target."""
    return {
        name: _layout(graph, value, rules)
        for name, value in graph.values.items()
        if value.q is not None
    }


def spatial(shape: Shape) -> tuple[int, int, int, int]:
    """Return [N, C, H, W] of a shape of two or four dimensions."""
    batch, channels, *space = shape
    height, width = space or (1, 1)
    return batch, channels, height, width


def channels_last(shape: Shape, multiple: int) -> Layout:
    """Return the layout of a shape without a halo, its channels padded to a ``multiple``."""
    batch, channels, height, width = spatial(shape)
    return Layout(batch, channels, height, width, _round_up(channels, multiple))


def _layout(graph: IntGraph, value: Value, rules: LayoutRules) -> Layout:
    plain = channels_last(value.shape, _multiple(graph, value, rules))
    return replace(plain, halo=_halo(graph, value.name, plain, rules))


def _multiple(graph: IntGraph, value: Value, rules: LayoutRules) -> int:
    """Return the multiple to which the channels of a value are padded."""
    if not _only_convolved(graph, value.name):
        return rules.vector
    few = rules.dense_pixels and spatial(value.shape)[1] < rules.group
    return 1 if few and all(map(_reads_rows, graph.consumers(value.name))) else rules.group


def _reads_rows(node: Node) -> bool:
    """Return whether a row of taps is more than one pixel, and whole in memory."""
    return isinstance(node, Conv2d) and node.window.kernel[1] > 1 and node.window.dilation[1] == 1


def _only_convolved(graph: IntGraph, name: str) -> bool:
    """Return whether a quantized network input is read by convolutions alone, in small groups."""
    readers = graph.consumers(name)
    return (
        isinstance(graph.producer(name), Quantize)
        and name not in graph.outputs
        and all(isinstance(reader, Conv2d) and reader.groups == 1 for reader in readers)
    )


def _halo(graph: IntGraph, name: str, plain: Layout, rules: LayoutRules) -> Padding:
    """Return the largest border that a convolution reads around ``name``."""
    borders = [
        _border(reader, plain, rules)
        for reader in graph.consumers(name)
        if isinstance(reader, Conv2d)
    ]
    return Padding(*(max(sides) for sides in zip(NO_PADDING, *borders, strict=True)))


def _border(node: Conv2d, x: Layout, rules: LayoutRules) -> Padding:
    """Return the part of the padding that some window really touches."""
    window, channels = node.window, node.weight.codes.shape[1]
    folded = x.stored % rules.group == 0 and folds(window, channels, node.groups, rules)
    whole = rules.fold if folded else 1
    reach = [_round_up(extent, whole) for extent in window.reach]
    rows, columns = window.output_size(x.height, x.width)
    last_row = (rows - 1) * window.stride[0] + reach[0] - window.padding.top
    last_column = (columns - 1) * window.stride[1] + reach[1] - window.padding.left
    bottom, right = max(0, last_row - x.height), max(0, last_column - x.width)
    return Padding(window.padding.top, window.padding.left, bottom, right)


def folds(window: Window, channels: int, groups: int, rules: LayoutRules) -> bool:
    """Return whether ``rules.fold`` rows and columns of a convolution may be read as one pixel.

    Its stride is the fold, and it has so few channels that one pixel does not fill a vector.
    """
    fold = rules.fold
    plain = window.stride == (fold, fold) and window.dilation == (1, 1) and groups == 1
    return fold > 1 and plain and channels <= rules.group and min(window.kernel) > 2 * fold


def _round_up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple
