"""How long the exact choice of bits takes, on the networks of the papers.

    python benchmarks/ilp.py --repeats 10

Layers and costs are the networks' own; losses are random, convex and falling with the bits, of all
sizes, as measured ones are. Times are of ``gmpq.search.ilp.solver.solve``, median and longest.
"""

from __future__ import annotations

import statistics
import time

import click
import numpy as np

from gmpq import models, table
from gmpq.lower import lower
from gmpq.search.ilp import constraints
from gmpq.search.ilp.solver import Constraint, Losses, solve
from gmpq.search.ilp.space import Space, space_of

NETWORKS = ("resnet18", "resnet50", "mobilenet_v2")
RATIO = 7.0  # of float32 weights to searched ones: MobileNetV2 reaches no more, its last layer at 8


def random_losses(space: Space, seed: int) -> Losses:
    """Return losses of every pair of bits: of the weight plus of the input."""
    rng = np.random.default_rng(seed)
    size = rng.lognormal(0.0, 1.0, (2, len(space.searched), 1))
    falls = np.exp2(-np.array(space.weight_bits)) * rng.uniform(
        0.7, 1.3, (2, len(space.searched), len(space.weight_bits))
    )
    weight, read = size * np.sort(falls, axis=2)[:, :, ::-1]
    return Losses(2.0 * weight[:, :, None] + read[:, None, :])


def bounds(space: Space) -> dict[str, tuple[Constraint, ...]]:
    """Return the levels of LIMPQ's table, with BOPs alone and with a size as well."""
    bops = constraints.mean_product(space, 12.0)
    return {"BOPs": (bops,), "BOPs and size": (bops, constraints.compression(space, RATIO))}


@click.command()
@click.option("--networks", default=",".join(NETWORKS), show_default=True)
@click.option("--repeats", type=click.IntRange(1), default=10, show_default=True)
def main(networks: str, repeats: int) -> None:
    """Print how long the exact choice of bits takes."""
    lines = []
    for name in networks.split(","):
        arch = models.find(name)
        space = space_of(lower(arch.build(), (1, *arch.shape), name))
        solve(random_losses(space, 0), bounds(space)["BOPs"])  # the first call imports
        for what, given in bounds(space).items():
            spent = []
            for seed in range(repeats):
                losses = random_losses(space, seed)
                start = time.perf_counter()
                solve(losses, given)
                spent.append(time.perf_counter() - start)
            times = (statistics.median(spent), max(spent))
            count = str(len(space.searched))
            lines.append((name, count, what, *(f"{1e3 * spent_:.0f}" for spent_ in times)))
    print(table.render(("network", "layers", "bounds", "median ms", "longest ms"), lines))


if __name__ == "__main__":
    main()
