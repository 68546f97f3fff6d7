"""``gmpq search``: commands that write policies."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gmpq.cli.answer import write
from gmpq.cli.options import (
    bound_options,
    candidate_options,
    loss_options,
    network_options,
    output_options,
)
from gmpq.cli.search_baselines import random_command, uniform_command
from gmpq.cli.search_gmpq import edmips_command, gmpq_command
from gmpq.cli.types import POSITIVE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gmpq.search.ilp.bounds import Bounds
    from gmpq.search.indicators.indicators import Indicators
    from gmpq.search.indicators.limpq import LimpqOptions
    from gmpq.search.indicators.measure import Candidates
    from gmpq.search.indicators.policy import Objective
    from gmpq.search.network_source import NetworkSource


@click.group()
def search() -> None:
    """Choose the bits of every layer, and write them as a policy.

    NETWORK is a policy file, of which only "model" and "calibration" count, or the name of a
    built-in network.
    """


search.add_command(gmpq_command)
search.add_command(edmips_command)
search.add_command(random_command)
search.add_command(uniform_command)


@search.command(
    epilog="\b\nExample:\n  gmpq search sensitivity examples/resnet18_w4a4.json \\\n"
    "      --calibration photographs/ --bits 4 --indicators r18.json -o r18-mixed.json"
)
@network_options
@click.option("--calibration", multiple=True, metavar="LOCATION", help="As for gmpq compile.")
@click.option("--images", type=click.IntRange(1), help="Measure on at most so many images.")
@bound_options
@candidate_options
@click.option(
    "--loss",
    type=click.Choice(["kl", "mse"]),
    default="kl",
    show_default=True,
    help="How outputs are compared: as class probabilities, or by squared error.",
)
@click.option("--observer", default="mse", show_default=True, help="How ranges are chosen.")
@click.option(
    "--weight-observer",
    type=click.Choice(["mse", "minmax"]),
    default="mse",
    show_default=True,
    help="How weight scales are chosen.",
)
@loss_options("1")
@output_options
def sensitivity(
    source: NetworkSource,
    calibration: tuple[str, ...],
    images: int | None,
    bounds: Bounds,
    weight_bits: tuple[int, ...] | None,
    input_bits: tuple[int, ...] | None,
    ends: bool,
    loss: str,
    observer: str,
    weight_observer: str,
    alphas: tuple[float, ...],
    reverse: bool,
    indicators: Path | None,
    out: Path,
    plot: Path | None,
) -> None:
    """Search by the error that each layer's bits cause on calibration images.

    Nothing is trained and no labels are needed: the float network runs once per layer and bits with
    this layer's weight, or its input, quantized. With --indicators a second bound takes no time.
    """
    from gmpq.search.indicators.policy import Objective

    def measure() -> Indicators:
        with_data = _with_data(source, calibration, images)
        return _measure(with_data, bits.candidates(ends), loss, observer, weight_observer)

    bits = _Bits(weight_bits, input_bits)
    found = _indicators(source, "sensitivity", bits, indicators, out, measure)
    objectives = [Objective(alpha, reverse) for alpha in dict.fromkeys(alphas)]
    _answer(source, found, bounds, objectives, out, plot)


@search.command(
    epilog="\b\nExample:\n  gmpq search limpq network.json --data train/ --bits w3a4 \\\n"
    "      --compression 12.2 --indicators steps.json -o limpq.json"
)
@network_options
@click.option("--data", multiple=True, metavar="LOCATION", help="Labelled images, as folders.")
@click.option("--images", type=click.IntRange(1), help="Train on at most so many images.")
@bound_options
@candidate_options
@click.option("--epochs", type=click.IntRange(1), default=5, show_default=True)
@click.option("--batch", type=click.IntRange(2), default=256, show_default=True)
@click.option("--rate", type=POSITIVE, default=0.01, show_default=True, help="Learning rate.")
@click.option("--augment/--no-augment", default=True, help="Shift and flip images at random.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--free-steps", is_flag=True, help="Trust steps that shrink as bits are taken away.")
@loss_options("2")
@output_options
def limpq(
    source: NetworkSource,
    data: tuple[str, ...],
    images: int | None,
    bounds: Bounds,
    weight_bits: tuple[int, ...] | None,
    input_bits: tuple[int, ...] | None,
    ends: bool,
    epochs: int,
    batch: int,
    rate: float,
    augment: bool,
    seed: int,
    free_steps: bool,
    alphas: tuple[float, ...],
    reverse: bool,
    indicators: Path | None,
    out: Path,
    plot: Path | None,
) -> None:
    """Search by learned steps, trained for all numbers of bits at once (LIMPQ, ECCV 2022).

    The labels are those of gmpq's images: the folder of a photograph, or "labels" of an .npz. With
    --indicators a second bound takes no time.
    """
    from gmpq.search.indicators.policy import Objective

    def measure() -> Indicators:
        from gmpq.search.indicators.limpq import LimpqOptions

        options = LimpqOptions(epochs, batch, rate, augment=augment, seed=seed)
        return _train(_with_data(source, data, images), bits.candidates(ends), options)

    bits = _Bits(weight_bits, input_bits)
    found = _indicators(source, "limpq", bits, indicators, out, measure)
    objectives = [
        Objective(a, reverse, forbid_falling=not free_steps) for a in dict.fromkeys(alphas)
    ]
    _answer(source, found, bounds, objectives, out, plot)


def _measure(
    source: NetworkSource, candidates: Candidates, loss: str, observer: str, weight_observer: str
) -> Indicators:
    from gmpq.calib import observers
    from gmpq.cli.terminal import Terminal
    from gmpq.passes.ptq import QuantizeOptions
    from gmpq.passes.weights import WeightObserver
    from gmpq.search.indicators.measure import Measurement, measure_sensitivity
    from gmpq.search.indicators.sensitivity import Divergence, SensitivityOptions

    quantization = QuantizeOptions(observers.find(observer), WeightObserver(weight_observer))
    options = SensitivityOptions(quantization, Divergence(loss))
    return measure_sensitivity(source, Measurement(candidates, options), Terminal())


def _train(source: NetworkSource, candidates: Candidates, options: LimpqOptions) -> Indicators:
    from gmpq.cli.terminal import Terminal
    from gmpq.search.indicators.measure import train_limpq

    return train_limpq(source, candidates, options, Terminal())


@dataclass(frozen=True, slots=True)
class _Bits:
    """The bits that were asked for; None for the usual ones, or for all that were measured."""

    weight: tuple[int, ...] | None
    input: tuple[int, ...] | None

    def candidates(self, ends: bool) -> Candidates:
        """Return what layers choose from, the first and the last one too if ``ends``."""
        from gmpq.search.ilp.space import BITS, WIDE
        from gmpq.search.indicators.measure import Candidates

        return Candidates(self.weight or BITS, self.input or BITS, None if ends else WIDE)


def _indicators(
    source: NetworkSource,
    method: str,
    bits: _Bits,
    path: Path | None,
    out: Path,
    measure: Callable[[], Indicators],
) -> Indicators:
    """Return the losses in the file ``path``, or measure them and write the file."""
    from gmpq.search.indicators import indicators as files

    if path is not None and path.exists():
        return files.reuse(path, source.name, method, bits.weight, bits.input)
    found = measure()
    files.write(found, path or out.with_suffix(".indicators.json"))
    return found


def _with_data(
    source: NetworkSource, locations: tuple[str, ...], images: int | None
) -> NetworkSource:
    return replace(source, calibration=locations, limit=images)


def _answer(
    source: NetworkSource,
    found: Indicators,
    bounds: Bounds,
    objectives: Sequence[Objective],
    out: Path,
    plot: Path | None,
) -> None:
    from gmpq.search.indicators.policy import search as least_loss

    for objective in objectives:
        suffix = f"-alpha{objective.alpha:g}" if len(objectives) > 1 else ""
        path = out.with_stem(out.stem + suffix)
        policy = least_loss(found, bounds, objective, source.model_for(path))
        policy = replace(policy, calibration=source.calibration_for(path))
        write(policy, found.space, path, plot and plot.with_stem(plot.stem + suffix))
