"""From a network source to its indicators: opened, lowered, calibrated and measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from gmpq.calib.collect import collect
from gmpq.errors import SearchError
from gmpq.files.strict_json import JSON
from gmpq.inputs import images as data
from gmpq.lower import lower
from gmpq.passes.sign_analysis import signed_inputs
from gmpq.progress import Progress
from gmpq.search.ilp.candidates import Candidates
from gmpq.search.ilp.space import candidate_space
from gmpq.search.indicators import limpq, sensitivity
from gmpq.search.indicators.indicators import Indicators
from gmpq.search.indicators.limpq_network import make_switchable
from gmpq.search.indicators.options import LimpqOptions
from gmpq.search.indicators.sensitivity import SensitivityOptions
from gmpq.search.network_source import NetworkSource
from gmpq.training.data import check_trainable, classes_of

BATCH = 16  # images at a time


@dataclass(frozen=True, slots=True)
class Measurement:
    """What to measure, and how."""

    candidates: Candidates = field(default_factory=Candidates)
    options: SensitivityOptions = field(default_factory=SensitivityOptions)


def measure_sensitivity(source: NetworkSource, what: Measurement, progress: Progress) -> Indicators:
    """Return the sensitivity of ``source`` on its calibration images.

    Raises:
        GmpqError: the network or the images cannot be used.
    """
    network = source.open()
    images = source.images(network)
    for line in (*network.warnings, *images.ignored):
        progress.warn(line)
    progress.stage(f"reading {network.name}")
    graph = lower(network.module, network.shape, network.name)
    space = candidate_space(graph, what.candidates)
    count = len(images.items)
    with progress.bar("calibrating", count) as advance:
        statistics = collect(graph, _tensors(images), advance)
    with progress.bar("measuring sensitivity", count) as advance:
        weight, read = sensitivity.measure(
            graph, space, statistics, _tensors(images), what.options, advance
        )
    return Indicators(
        "sensitivity",
        source.name,
        space,
        weight,
        read,
        dataset=", ".join(source.locations),
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


def train_limpq(
    source: NetworkSource, candidates: Candidates, options: LimpqOptions, progress: Progress
) -> Indicators:
    """Return the importance of the layers of ``source``, learned from its labelled images.

    Raises:
        GmpqError: the network or the images cannot be used, or bits differ for weights and inputs.
    """
    bits = candidates.weight_bits
    if bits != candidates.input_bits:
        raise SearchError(
            "LIMPQ trains the same bits for weights and inputs: give both the same, and choose "
            "among them afterwards with --indicators"
        )
    network = source.open()
    labelled = source.labelled(network)
    for line in (*network.warnings, *labelled.ignored):
        progress.warn(line)
    progress.stage(f"reading {network.name}")
    graph = lower(network.module, network.shape, network.name)
    check_trainable(labelled, classes_of(graph))
    space = candidate_space(graph, candidates)
    paths = [layer.name.partition(":")[0] for layer in space.searched]  # calls of one module share
    signed = signed_inputs(graph)
    wanted = dict.fromkeys(paths, False)
    for layer, path in zip(space.searched, paths, strict=True):
        wanted[path] |= signed[layer.name]
    switchable = make_switchable(network.module, network.shape, wanted, bits)
    with progress.bar("training indicators", options.epochs * len(labelled)) as advance:
        limpq.train(switchable, labelled, options, advance)
    weight, read = limpq.steps_of(switchable, paths)
    details: dict[str, JSON] = {"epochs": options.epochs, "images": len(labelled)}
    place = labelled.place
    return Indicators("limpq", source.name, space, weight, read, place, options.seed, details)
