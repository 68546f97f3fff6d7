"""One sweep over the calibration data: statistics of every value of the float graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch

from gmpq.backends.torch_float import run_float
from gmpq.calib.statistics import Histogram, Statistics, join, layout
from gmpq.errors import CalibrationError
from gmpq.ir import FloatGraph, Shape

_EXACT_COUNT = 1 << 24  # torch.histc counts in float32


def _silent(_images: int) -> None:
    """Report to nobody."""


def collect(
    graph: FloatGraph,
    batches: Iterable[torch.Tensor],
    progress: Callable[[int], object] = _silent,
) -> dict[str, Statistics]:
    """Return the statistics of every value of ``graph`` over ``batches``.

    Args:
        graph: the network, with one input.
        batches: float32 images [N, C, H, W] of the input's shape, with any N.
        progress: called after each batch with its number of images.

    Raises:
        CalibrationError: if there is no image, an image has another shape, or a value is not
            finite.
    """
    (source,) = graph.inputs
    found: dict[str, Statistics] = {}
    for number, batch in enumerate(batches):
        check_batch(batch, graph.values[source].shape, number)
        with torch.inference_mode():
            for name, tensor in run_float(graph, {source: batch}):
                new = summarize(name, tensor)
                found[name] = join(found[name], new) if name in found else new
        progress(len(batch))
    if not found:
        raise CalibrationError("the calibration set is empty: give at least one image")
    return found


def check_batch(batch: torch.Tensor, shape: Shape, number: int) -> None:
    """Pass float32 images of ``shape`` [N, ...] with any N above 0.

    Raises:
        CalibrationError: if shape or type differ, or a number is not finite.
    """
    if batch.shape[1:] != shape[1:] or batch.ndim != len(shape) or len(batch) == 0:
        raise CalibrationError(
            f"calibration batch {number} has shape {list(batch.shape)}, "
            f"the network reads {['N', *shape[1:]]}: resize the images".replace("'", "")
        )
    if batch.dtype != torch.float32:
        raise CalibrationError(
            f"calibration batch {number} holds {batch.dtype}, the network reads float32: convert it"
        )
    if not torch.isfinite(batch).all():
        raise CalibrationError(f"calibration batch {number} holds nan or inf: check the images")


def summarize(name: str, tensor: torch.Tensor) -> Statistics:
    """Return the statistics of one batch of the value ``name``, [N, C, ...].

    Raises:
        CalibrationError: if a number is not finite.
    """
    low, high = (float(bound) for bound in torch.aminmax(tensor))
    if not np.isfinite([low, high]).all():
        raise CalibrationError(
            f"value '{name}' becomes nan or inf on the calibration data: check the weights"
        )
    per_image = tensor.reshape(*tensor.shape[:2], -1).mean(dim=2)
    means = per_image.to(torch.float64).mean(dim=0).numpy()
    return Statistics(low, high, low, high, _histogram(tensor, low, high), means, len(tensor))


def _histogram(tensor: torch.Tensor, low: float, high: float) -> Histogram:
    exponent, first, bins = layout(low, high)
    width = 2.0**exponent
    counts = torch.zeros(bins, dtype=torch.int64)
    for part in torch.split(tensor.flatten(), _EXACT_COUNT):
        counts += torch.histc(part, bins, first * width, (first + bins) * width).to(torch.int64)
    return Histogram(exponent, first, counts.numpy())
