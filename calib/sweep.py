"""Calibration on numpy arrays, for callers that do without torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from gmpq.calib.collect import collect
from gmpq.calib.statistics import Statistics
from gmpq.ir import FloatGraph


def sweep(
    graph: FloatGraph,
    batches: Iterable[NDArray[np.float32]],
    progress: Callable[[int], object],
) -> dict[str, Statistics]:
    """Return the statistics of every value of ``graph`` over ``batches`` [N, C, H, W].

    Args:
        graph: the network, with one input.
        batches: images of the input's shape.
        progress: called after each batch with its number of images.

    Raises:
        CalibrationError: if there is no image, an image has another shape, or a value is not
            finite.
    """
    return collect(graph, map(torch.from_numpy, batches), progress)
