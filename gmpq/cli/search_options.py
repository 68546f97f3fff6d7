"""What the searches share: NETWORK and its images, bounds, bits to choose from, and places."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gmpq.cli.answer import Output
from gmpq.cli.options import IMAGES, MOST_IMAGES, NETWORK, Option, grouped
from gmpq.cli.types import BITS, NUMBERS, PATH, POSITIVE, Level, LevelType
from gmpq.search.ilp.candidates import WIDE, Candidates

if TYPE_CHECKING:
    from gmpq.search.ilp.bounds import Bounds
    from gmpq.search.indicators.policy import Objective
    from gmpq.search.network_source import NetworkSource


def _source(
    network: str,
    weights: str | None,
    factory: str | None,
    calibration: tuple[str, ...] = (),
    data: tuple[str, ...] = (),
    images: int | None = None,
) -> NetworkSource:
    from gmpq.search import network_source

    found = network_source.find(network, weights, factory)
    return replace(found, calibration=calibration, data=data, limit=images)


NAMED = (click.argument("network"), *NETWORK)
DATA = (
    click.option(
        "--data",
        multiple=True,
        required=True,
        metavar="LOCATION",
        help="Labelled images: a folder with a folder per class, or an .npz of images and labels; "
        "repeatable.",
    ),
    MOST_IMAGES,
)
KNOWN_DATA = (  # needed only where nothing is known yet
    click.option(
        "--data",
        multiple=True,
        metavar="LOCATION",
        help="Labelled images: a folder with a folder per class, or an .npz of images and labels; "
        "repeatable.",
    ),
    MOST_IMAGES,
)
network_options = grouped("source", _source, NAMED)
calibrated_options = grouped("source", _source, (*NAMED, *IMAGES))
labelled_options = grouped("source", _source, (*NAMED, *KNOWN_DATA))
training_options = grouped("source", _source, (*NAMED, *DATA))


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundOptions:
    """The bounds as they are given; None is no bound."""

    bops: float | None
    published_bops: float | None
    bits: Level | None
    size: float | None
    compression: float | None
    latency: float | None
    latency_table: Path | None

    def bounds(self) -> Bounds:
        """Return the bounds.

        Raises:
            SearchError: the latency table cannot be read.
        """
        from gmpq.search.ilp import latency_table
        from gmpq.search.ilp.bounds import Bounds

        return Bounds(
            self.bops,
            self.published_bops,
            None if self.bits is None else self.bits.mean_product,
            self.size,
            self.compression,
            self.latency,
            None if self.latency_table is None else latency_table.read(self.latency_table),
        )


def _required(**given: Any) -> Bounds:
    bounds = BoundOptions(**given).bounds()
    bounds.check()  # before anything is measured or trained
    return bounds


def _optional(**given: Any) -> Bounds:
    from gmpq.search.ilp.bounds import Bounds

    bounds = BoundOptions(**given).bounds()
    if bounds != Bounds():
        bounds.check()
    return bounds


BOUNDS = (
    click.option("--bops", type=POSITIVE, help="At most this many BOPs, layers at their bits."),
    click.option(
        "--published-bops",
        type=POSITIVE,
        help="At most this many BOPs in the convention of the papers' tables.",
    ),
    click.option(
        "--bits",
        type=LevelType(),
        help="At most the BOPs of these bits in all searched layers: 4 or w3a4.",
    ),
    click.option("--size", type=POSITIVE, help="At most this many MB (10^6 bytes) of weights."),
    click.option(
        "--compression", type=POSITIVE, help="At least this ratio of float32 weights to the result."
    ),
    click.option("--latency", type=POSITIVE, help="At most this many ms by --latency-table."),
    click.option("--latency-table", type=PATH, help="Measured times of layers, as JSON."),
)
bound_options = grouped("bounds", _required, BOUNDS)
optional_bound_options = grouped("bounds", _optional, BOUNDS)
given_bound_options = grouped("bounds", BoundOptions, BOUNDS)


@dataclass(frozen=True, slots=True)
class CandidateOptions:
    """The bits to choose from as they are given; None for the default."""

    weight_bits: tuple[int, ...] | None
    input_bits: tuple[int, ...] | None
    include_first_last: bool

    def candidates(self, default: Candidates | None = None) -> Candidates:
        """Return the bits to choose from, those of ``default`` where none are given."""
        usual = default or Candidates()
        return Candidates(
            self.weight_bits or usual.weight_bits,
            self.input_bits or usual.input_bits,
            None if self.include_first_last else WIDE,
        )


def _shown(bits: tuple[int, ...]) -> str:
    return ",".join(map(str, bits))


INCLUDE = click.option(
    "--include-first-last", is_flag=True, help="Also search the first and the last layer."
)


def candidate_options(default: Candidates) -> Option:
    """Return what adds the bits to choose from, as one argument ``candidates``."""
    texts = (_shown(default.weight_bits), _shown(default.input_bits))
    sides = [
        click.option(name, type=BITS, help=f"Bits of {what} to choose from.  [default: {text}]")
        for name, what, text in zip(
            ("--weight-bits", "--input-bits"), ("weights", "inputs"), texts, strict=True
        )
    ]
    return grouped("candidates", CandidateOptions, (*sides, INCLUDE))


@dataclass(frozen=True, slots=True)
class LossOptions:
    """How losses are weighed, and where they are kept."""

    alphas: tuple[float, ...]
    reverse: bool
    indicators: Path | None
    keep_decreasing: bool = True

    def objectives(self) -> list[Objective]:
        """Return what is minimized, for each of the given weights once."""
        from gmpq.search.indicators.policy import Objective

        forbid = not self.keep_decreasing
        return [
            Objective(alpha, self.reverse, forbid_falling=forbid)
            for alpha in dict.fromkeys(self.alphas)
        ]


def loss_options(alpha: str, *more: Option) -> Option:
    """Return what adds how losses are weighed, as one argument; ``alpha`` is the default."""
    return grouped(
        "losses",
        LossOptions,
        (
            click.option(
                "--alpha",
                "alphas",
                type=NUMBERS,
                default=alpha,
                show_default=True,
                help="Weight of the weights' losses; a policy for each of several values.",
            ),
            click.option(
                "--reverse", is_flag=True, help="Choose the worst policy, to check the losses."
            ),
            click.option(
                "--indicators",
                type=PATH,
                help="File of losses: read if it exists, else written."
                "  [default: OUT.indicators.json]",
            ),
            *more,
        ),
    )


OUTPUT = (
    click.option("-o", "--out", type=PATH, required=True, help="Policy file to write."),
    click.option("--plot", type=PATH, help="Also draw the policy: .png, .svg or .pdf."),
)
output_options = grouped("output", Output, OUTPUT)
