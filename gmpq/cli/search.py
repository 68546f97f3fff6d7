"""``gmpq search``: commands that write policies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from gmpq.cli.answer import write
from gmpq.cli.options import field_option, grouped
from gmpq.cli.renamed import RenamedOptions
from gmpq.cli.search_baselines import random_command, uniform_command
from gmpq.cli.search_gmpq import edmips_command, gmpq_command
from gmpq.cli.search_options import (
    bound_options,
    calibrated_options,
    candidate_options,
    labelled_options,
    loss_options,
    output_options,
)
from gmpq.cli.types import OBSERVER, POSITIVE, WEIGHT_OBSERVER, EnumChoice
from gmpq.search.ilp.candidates import Candidates
from gmpq.search.indicators.options import Divergence, LimpqOptions

if TYPE_CHECKING:
    from gmpq.cli.answer import Output
    from gmpq.cli.search_options import CandidateOptions, LossOptions
    from gmpq.search.ilp.bounds import Bounds
    from gmpq.search.indicators.indicators import Indicators
    from gmpq.search.indicators.policy import Objective
    from gmpq.search.indicators.sensitivity import SensitivityOptions
    from gmpq.search.network_source import NetworkSource


@click.group()
def search() -> None:
    """Choose the bits of every layer, and write them as a policy.

    NETWORK is the name of a built-in network, or a policy file, of which only "model" and
    "calibration" count. All methods take the same names for the same things.
    """


search.add_command(gmpq_command)
search.add_command(edmips_command)
search.add_command(random_command)
search.add_command(uniform_command)


def _sensitivity(divergence: Divergence, observer: str, weight_observer: str) -> SensitivityOptions:
    from gmpq.calib import observers
    from gmpq.passes.ptq import QuantizeOptions
    from gmpq.passes.weights import WeightObserver
    from gmpq.search.indicators.sensitivity import SensitivityOptions

    quantization = QuantizeOptions(observers.find(observer), WeightObserver(weight_observer))
    return SensitivityOptions(quantization, divergence)


SENSITIVITY = (
    click.option(
        "--loss",
        "divergence",
        type=EnumChoice(Divergence),
        default=Divergence.KL.value,
        show_default=True,
        help="How outputs are compared: as class probabilities, or by squared error.",
    ),
    click.option(
        "--observer",
        type=OBSERVER,
        default="mse",
        show_default=True,
        help="How activation ranges are chosen.",
    ),
    click.option(
        "--weight-observer",
        type=WEIGHT_OBSERVER,
        default="mse",
        show_default=True,
        help="How weight scales are chosen.",
    ),
)
LIMPQ = (
    field_option(LimpqOptions, "epochs", type=click.IntRange(1)),
    field_option(LimpqOptions, "batch", type=click.IntRange(2), help="Images per step."),
    field_option(LimpqOptions, "lr", type=POSITIVE, help="Peak learning rate."),
    field_option(LimpqOptions, "crop", help="Random crops."),
    field_option(LimpqOptions, "flip", help="Random horizontal flips."),
    field_option(LimpqOptions, "seed", type=click.IntRange(0)),
)
KEEP_DECREASING = click.option(
    "--keep-decreasing",
    is_flag=True,
    help="Keep bits whose learned step is smaller than that of one more bit.",
)


@search.command(
    cls=RenamedOptions,
    epilog="\b\nExample:\n  gmpq search sensitivity examples/resnet18_w4a4.json \\\n"
    "      --calibration photographs/ --bits 4 --indicators r18.json -o r18-mixed.json",
)
@calibrated_options
@bound_options
@candidate_options(Candidates())
@grouped("options", _sensitivity, SENSITIVITY)
@loss_options("1")
@output_options
def sensitivity(
    source: NetworkSource,
    bounds: Bounds,
    candidates: CandidateOptions,
    options: SensitivityOptions,
    losses: LossOptions,
    output: Output,
) -> None:
    """Search by the output error that each layer's bits cause on calibration images.

    Nothing is trained and no labels are needed: the float network runs once per layer and bits with
    this layer's weight, or its input, quantized. With --indicators a second bound takes no time.
    """

    def measure() -> Indicators:
        from gmpq.cli.terminal import Terminal
        from gmpq.search.indicators.measure import Measurement, measure_sensitivity

        what = Measurement(candidates.candidates(), options)
        return measure_sensitivity(source, what, Terminal())

    found = _indicators(source, "sensitivity", candidates, losses, output, measure)
    _answer(source, found, bounds, losses.objectives(), output)


@search.command(
    cls=RenamedOptions,
    epilog="\b\nExample:\n  gmpq search limpq network.json --data train/ --bits w3a4 \\\n"
    "      --compression 12.2 --indicators steps.json -o limpq.json",
)
@labelled_options
@bound_options
@candidate_options(Candidates())
@grouped("options", LimpqOptions, LIMPQ)
@loss_options("2", KEEP_DECREASING)
@output_options
def limpq(
    source: NetworkSource,
    bounds: Bounds,
    candidates: CandidateOptions,
    options: LimpqOptions,
    losses: LossOptions,
    output: Output,
) -> None:
    """Search by learned steps, trained for all numbers of bits at once (LIMPQ, ECCV 2022).

    The labels are those of gmpq's images: the folder of a photograph, or "labels" of an .npz. With
    --indicators a second bound takes no time.
    """

    def measure() -> Indicators:
        from gmpq.cli.terminal import Terminal
        from gmpq.search.indicators.measure import train_limpq

        return train_limpq(source, candidates.candidates(), options, Terminal())

    found = _indicators(source, "limpq", candidates, losses, output, measure)
    _answer(source, found, bounds, losses.objectives(), output)


def _indicators(
    source: NetworkSource,
    method: str,
    candidates: CandidateOptions,
    losses: LossOptions,
    output: Output,
    measure: Callable[[], Indicators],
) -> Indicators:
    """Return the indicators in the file that ``losses`` names, or measure and write them."""
    from gmpq.search.indicators import indicators as files

    path = losses.indicators
    if path is not None and path.exists():
        bits = (candidates.weight_bits, candidates.input_bits)
        return files.reuse(path, source.name, method, *bits)
    found = measure()
    files.write(found, path or output.out.with_suffix(".indicators.json"))
    return found


def _answer(
    source: NetworkSource,
    found: Indicators,
    bounds: Bounds,
    objectives: Sequence[Objective],
    output: Output,
) -> None:
    from gmpq.search.indicators.policy import search as least_loss

    for objective in objectives:
        suffix = f"-alpha{objective.alpha:g}" if len(objectives) > 1 else ""
        place = output.suffixed(suffix)
        policy = least_loss(found, bounds, objective, source.model_for(place.out))
        policy = replace(policy, calibration=source.calibration_for(place.out))
        write(policy, found.space, place)
