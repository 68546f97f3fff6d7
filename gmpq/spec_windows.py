"""Rules of ``gmpq.spec`` about images: windows that slide over them, and means of their codes."""

from __future__ import annotations

from math import prod

import numpy as np

from gmpq import numerics
from gmpq.ir import AvgPool, GlobalAvgPool, Node, Padding, QParams, Value, Window
from gmpq.spec_types import INT32

TINY = float(np.finfo(np.float32).tiny)  # below it CPUs that flush denormals would differ
HUGE = float(np.finfo(np.float32).max)
MOST_ELEMENTS = INT32.max  # of a tensor, padding included: programs count in int32


def is_normal(scale: float) -> bool:
    """Return whether ``scale`` is a float32 above 0 that no processor takes for 0."""
    return TINY <= scale <= HUGE and numerics.as_float32(scale) == scale


def image(node: Node, value: Value) -> tuple[int, int, int, int]:
    """Return the shape of ``value``, which has to be an image."""
    assert len(value.shape) == 4, f"{node.name}: {value.name} is [N, C, H, W]"
    batch, channels, height, width = value.shape
    return batch, channels, height, width


def slide(node: Node, window: Window, height: int, width: int) -> tuple[int, int]:
    """Return the rows and columns of positions of ``window``, of which there have to be some."""
    steps = (*window.kernel, *window.stride, *window.dilation)
    assert min(steps) > 0, f"{node.name}: kernel, stride and dilation are positive"
    assert min(window.padding) >= 0, f"{node.name}: padding is not negative"
    top, left, bottom, right = window.padding
    padded = (height + top + bottom, width + left + right)
    assert prod(padded) <= MOST_ELEMENTS, f"{node.name}: elements are counted in int32"
    size = window.output_size(height, width)
    assert min(size) > 0, f"{node.name}: the window fits into the padded image"
    return size


def check_mean(
    node: AvgPool | GlobalAvgPool, kernel: tuple[int, int], qx: QParams | None, qy: QParams | None
) -> None:
    """Pass means under ``kernel`` whose sums fit int32, by factors that are normal numbers."""
    assert qx is not None, f"{node.name}: the input holds codes"
    assert qy is not None, f"{node.name}: the output holds codes"
    count = prod(kernel)
    assert sum_fits(count, qx), f"{node.name}: the sum of {count} codes fits int32"
    with np.errstate(all="ignore"):
        factors = numerics.average_multiplier(qx.scale, qy.scale, np.array([1, count]))
    assert all(is_normal(float(f)) for f in factors), f"{node.name}: multipliers are normal"


def sum_fits(count: int, q: QParams) -> bool:
    """Return whether the sum of ``count`` codes is an int32, zero points not yet subtracted."""
    return max(q.high, q.zero_point) * count <= INT32.max


def check_seen(node: Node, window: Window, size: tuple[int, int], counted: Padding) -> None:
    """Pass a window that sees an element, or padding that counts, wherever it stands."""
    top, left, bottom, right = (p - c for p, c in zip(window.padding, counted, strict=True))
    extents = (size[0] + counted.top + counted.bottom, size[1] + counted.left + counted.right)
    for axis, (before, after) in enumerate(((top, bottom), (left, right))):
        extent, taps, step = extents[axis], window.kernel[axis], window.dilation[axis]
        reach, pace = window.reach[axis], window.stride[axis]
        assert max(before, after) < reach, f"{node.name}: no window lies in the padding alone"
        last = (before + extent + after - reach) // pace * pace
        starts = np.arange(0, min(before, last + 1), pace)  # others begin in the image, or behind
        taken = -((starts - before) // step)  # the first tap in the image
        seen = (taken < taps) & (starts + step * taken < before + extent)
        inside = seen.all() and last < before + extent
        assert inside, f"{node.name}: no window lies in the padding alone"
