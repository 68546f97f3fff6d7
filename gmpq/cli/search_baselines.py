"""``gmpq search random`` and ``gmpq search uniform``: what a search has to beat."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gmpq.cli.answer import write
from gmpq.cli.options import bound_options, network_options, output_options
from gmpq.cli.types import BITS, PAIR

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gmpq.policy import LayerBits, Policy, Provenance
    from gmpq.search.ilp.bounds import Bounds
    from gmpq.search.ilp.space import Space
    from gmpq.search.network_source import NetworkSource


@click.command(
    "random",
    epilog="\b\nExample:\n  gmpq search random resnet18 --published-bops 15.3e9 -o random.json",
)
@network_options
@bound_options
@click.option("--from", "bits", type=BITS, default="2,3,4,5,6", show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@output_options
def random_command(
    source: NetworkSource,
    bounds: Bounds,
    bits: tuple[int, ...],
    seed: int,
    out: Path,
    plot: Path | None,
) -> None:
    """Draw random bits that cost what is given, to within 1%."""
    from gmpq.policy import Provenance
    from gmpq.search.ilp import baselines

    space = _space(source)
    drawn = baselines.random(space, bounds.level(space), seed, bits)
    provenance = Provenance("random", constraint=bounds.constraint(), seed=seed)
    write(_policy(source, drawn, provenance, out), space, out, plot)


@click.command(
    "uniform", epilog="\b\nExample:\n  gmpq search uniform resnet18 --bits w4a4 -o w4a4.json"
)
@network_options
@click.option("--bits", required=True, metavar="wXaY", help="Of every layer but first and last.")
@output_options
def uniform_command(source: NetworkSource, bits: str, out: Path, plot: Path | None) -> None:
    """Give all layers the same bits, and 8 to the first and the last."""
    from gmpq.policy import LayerBits, Provenance
    from gmpq.search.ilp import baselines

    pair = PAIR.fullmatch(bits)
    if pair is None:
        raise click.UsageError(f"--bits {bits}: give a pair from 1 to 8, as w4a4")
    space = _space(source)
    chosen = baselines.uniform(space, LayerBits(int(pair[1]), int(pair[2])))
    write(_policy(source, chosen, Provenance("uniform"), out), space, out, plot)


def _space(source: NetworkSource) -> Space:
    from gmpq.lower import lower
    from gmpq.search.ilp.space import space_of

    network = source.build()
    return space_of(lower(network.module, network.shape, network.name))


def _policy(
    source: NetworkSource, bits: Mapping[str, LayerBits], provenance: Provenance, out: Path
) -> Policy:
    from gmpq.policy import Policy

    model, calibration = source.model_for(out), source.calibration_for(out)
    return Policy(bits, model=model, provenance=provenance, calibration=calibration)
