"""``gmpq search random`` and ``gmpq search uniform``: the baselines of a search."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gmpq.cli.answer import write
from gmpq.cli.renamed import RenamedOptions
from gmpq.cli.search_options import (
    INCLUDE,
    bound_options,
    candidate_options,
    given_bound_options,
    network_options,
    output_options,
)
from gmpq.search.ilp.candidates import WIDE, Candidates

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gmpq.cli.answer import Output
    from gmpq.cli.search_options import BoundOptions, CandidateOptions
    from gmpq.policy import LayerBits, Policy, Provenance
    from gmpq.search.ilp.bounds import Bounds
    from gmpq.search.ilp.space import Space
    from gmpq.search.network_source import NetworkSource


@click.command(
    "random",
    cls=RenamedOptions,
    epilog="\b\nExample:\n  gmpq search random resnet18 --published-bops 15.3e9 -o random.json",
)
@network_options
@bound_options
@candidate_options(Candidates())
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@output_options
def random_command(
    source: NetworkSource,
    bounds: Bounds,
    candidates: CandidateOptions,
    seed: int,
    output: Output,
) -> None:
    """Draw random bits that meet one bound on BOPs to within 1%."""
    from gmpq.policy import Provenance
    from gmpq.search.ilp import baselines

    space = _space(source, candidates.candidates())
    drawn = baselines.random(space, bounds.level(space), seed)
    provenance = Provenance("random", constraint=bounds.limits(), seed=seed)
    write(_policy(source, drawn, provenance, output.out), space, output)


@click.command(
    "uniform",
    cls=RenamedOptions,
    epilog="\b\nExample:\n  gmpq search uniform resnet18 --bits w4a4 -o w4a4.json",
)
@network_options
@given_bound_options
@INCLUDE
@output_options
def uniform_command(
    source: NetworkSource, bounds: BoundOptions, include_first_last: bool, output: Output
) -> None:
    """Give all layers the bits of --bits, and 8 to the first and the last."""
    from gmpq.policy import Provenance
    from gmpq.search.ilp import baselines

    bits = _uniform_bits(bounds)
    space = _space(source, Candidates(first_last_bits=None if include_first_last else WIDE))
    chosen = baselines.uniform(space, bits)
    write(_policy(source, chosen, Provenance("uniform"), output.out), space, output)


def _uniform_bits(given: BoundOptions) -> LayerBits:
    from gmpq.policy import LayerBits

    others = [name for name in given.bounds().options if name != "--bits"]
    if others:
        raise click.UsageError(f"{others[0]}: uniform bits meet no bound but --bits: leave it out")
    if given.bits is None or given.bits.pair is None:
        raise click.UsageError("--bits: uniform bits are whole numbers: give a pair, as w4a4")
    return LayerBits(*given.bits.pair)


def _space(source: NetworkSource, candidates: Candidates) -> Space:
    from gmpq.lower import lower
    from gmpq.search.ilp.space import candidate_space

    network = source.build()
    return candidate_space(lower(network.module, network.shape, network.name), candidates)


def _policy(
    source: NetworkSource, bits: Mapping[str, LayerBits], provenance: Provenance, out: Path
) -> Policy:
    from gmpq.policy import Policy

    model, calibration = source.model_for(out), source.calibration_for(out)
    return Policy(bits, model=model, provenance=provenance, calibration=calibration)
