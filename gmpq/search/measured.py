"""From a subject to its indicators: opened, lowered, calibrated, measured; or read from a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch

from gmpq import data
from gmpq.calib.collect import collect
from gmpq.lower import lower
from gmpq.policy import JSON, LayerBits
from gmpq.progress import Progress
from gmpq.search import sensitivity
from gmpq.search.indicators import Indicators
from gmpq.search.sensitivity import SensitivityOptions
from gmpq.search.space import BITS, WIDE, space_of
from gmpq.search.subject import Subject

BATCH = 16  # images at a time


@dataclass(frozen=True, slots=True)
class Candidates:
    """The bits that layers choose from."""

    weight_bits: Sequence[int] = BITS
    input_bits: Sequence[int] = BITS
    ends: LayerBits | None = WIDE  # of the first and the last layer; None searches them too


@dataclass(frozen=True, slots=True)
class Measurement:
    """What to measure, and how."""

    candidates: Candidates = field(default_factory=Candidates)
    options: SensitivityOptions = field(default_factory=SensitivityOptions)


def measure_sensitivity(subject: Subject, what: Measurement, told: Progress) -> Indicators:
    """Return the sensitivity of ``subject`` on its calibration images.

    Raises:
        GmpqError: the network or the images cannot be used.
    """
    network = subject.open()
    images = subject.images(network)
    told.stage(f"reading {network.name}")
    graph = lower(network.module, network.shape, network.name)
    among = what.candidates
    space = space_of(graph, among.weight_bits, among.input_bits, ends=among.ends)
    count = len(images.items)
    with told.bar("calibrating", count) as advance:
        statistics = collect(graph, _tensors(images), advance)
    with told.bar("measuring sensitivity", count) as advance:
        weight, read = sensitivity.measure(
            graph, space, statistics, _tensors(images), what.options, advance
        )
    return Indicators(
        "sensitivity",
        subject.name,
        space,
        weight,
        read,
        dataset=", ".join(subject.calibration),
        details=_details(what.options, count),
    )


def _tensors(images: data.Images) -> Iterator[torch.Tensor]:
    return map(torch.from_numpy, images.batches(BATCH))


def _details(options: SensitivityOptions, count: int) -> dict[str, JSON]:
    return {
        "images": count,
        "divergence": options.divergence.value,
        "observer": options.quantization.observer.name,
        "weight_observer": options.quantization.weight_observer.value,
    }
