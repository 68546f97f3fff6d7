"""What calibration images cannot teach: values that never change, and scales that do not fit.

Nothing here is refused: the network is legal, and its owner alone knows whether it is meant so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from gmpq.calib.statistics import Statistics
from gmpq.inputs.images import Preprocessing
from gmpq.ir import Add, FloatGraph, MaxPool, Pad, Reshape, Upsample
from gmpq.passes.fuse import fuse_clamps
from gmpq.passes.ranges import SMALLEST_SCALE
from gmpq.passes.reals import real_values
from gmpq.passes.scale_groups import scale_groups
from gmpq.policy import LayerBits

MOST_RATIO = 32  # of two ranges that share a scale: 8 bits leave the narrower one 3
UNUSUAL = 16  # times wider or narrower than photographs are
NAMED = 3  # values that a line names

StatisticsByValue = Mapping[str, Statistics]


def calibration_warnings(
    graph: FloatGraph,
    bits: Mapping[str, LayerBits],
    statistics: StatisticsByValue,
    how: Preprocessing,
    output_bits: int | None = None,
) -> tuple[str, ...]:
    """Return a line for each thing that calibration cannot have got right, with its place.

    Args:
        graph: the network in real numbers.
        bits: of every layer, by node name.
        statistics: of every value of ``graph``.
        how: what photographs become.
        output_bits: of the codes of outputs; None leaves those of layers float32.
    """
    (source,) = graph.inputs
    seen = statistics[source]
    if seen.minimum == seen.maximum:
        return (
            f"input '{source}' is {seen.minimum:g} everywhere in all {seen.images} calibration "
            "images, so that no range is known: calibrate on images like those to come",
        )
    return (
        *_unusual(source, seen, how),
        *_constant(source, statistics),
        *_tiny(statistics),
        *_crowded(graph, bits, statistics, output_bits),
    )


def _unusual(source: str, seen: Statistics, how: Preprocessing) -> Iterator[str]:
    mean, std = np.array(how.mean), np.array(how.std)
    if not mean.any() and (std == 1).all():
        return  # nobody said what inputs are
    low, high = float(np.min(-mean / std)), float(np.max((1 - mean) / std))
    ratio = _width(seen) / (high - low)
    if not 1 / UNUSUAL <= ratio <= UNUSUAL:
        yield (
            f"input '{source}' spans {seen.minimum:g} to {seen.maximum:g} in calibration, while "
            f"photographs span {low:.3g} to {high:.3g} by model.input's mean and std: "
            "prepare the images as for training"
        )


def _constant(source: str, statistics: StatisticsByValue) -> Iterator[str]:
    names = [name for name, seen in statistics.items() if seen.minimum == seen.maximum]
    if names:
        seen = statistics[names[0]]
        yield (
            f"{_some(names)} is {seen.minimum:g} on all {seen.images} calibration images, so that "
            "its range is a guess: check the weights, or calibrate on more images"
        )


def _tiny(statistics: StatisticsByValue) -> Iterator[str]:
    """Yield the values whose range is too small for a scale."""
    least = 255 * SMALLEST_SCALE
    names = [name for name, seen in statistics.items() if 0 < _width(seen) < least]
    if names:
        seen = statistics[names[0]]
        yield (
            f"{_some(names)} spans {seen.minimum:g} to {seen.maximum:g} in calibration, less than "
            f"8-bit codes can follow ({least:.1g}): scale the images or the weights up"
        )


def _crowded(
    graph: FloatGraph,
    bits: Mapping[str, LayerBits],
    statistics: StatisticsByValue,
    output_bits: int | None,
) -> Iterator[str]:
    """Yield what shares its scale with a value of a much wider range, and is also read alone."""
    found = fuse_clamps(graph)
    fused, reals = found.graph, real_values(found, output_bits)
    for shared in scale_groups(fused, bits, reals, output_bits):
        widths = {n: _width(statistics[n]) for group in shared.groups for n in group}
        members = sorted(widths, key=lambda name: widths[name])
        widest = members[-1]
        limit = widths[widest] / MOST_RATIO
        names = [n for n in members if 0 < widths[n] < limit and _is_read(fused, n)]
        if names:
            narrow = widths[names[0]]
            ratio = widths[widest] / narrow
            yield (
                f"{_some(names)} spans {narrow:.3g} in calibration but shares its scale with "
                f"'{widest}', which spans {ratio:.0f} times as much: little of it is left in 8 "
                "bits: keep their sum or concatenation apart, or scale it up in the network"
            )


def _is_read(graph: FloatGraph, value: str) -> bool:
    """Return whether more than a sum depends on ``value``; what moves it is another value."""
    passing = (Add, MaxPool, Pad, Reshape, Upsample)
    readers = graph.consumers(value)
    return value in graph.outputs or any(not isinstance(node, passing) for node in readers)


def _width(seen: Statistics) -> float:
    return max(seen.maximum, 0.0) - min(seen.minimum, 0.0)


def _some(names: Sequence[str]) -> str:
    """Return some of ``names`` for a line, and the number of the others."""
    shown = ", ".join(f"'{name}'" for name in names[:NAMED])
    return f"{shown} (and {len(names) - NAMED} more)" if len(names) > NAMED else shown
