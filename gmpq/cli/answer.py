"""What every search ends with: the policy in a file, its costs as a table, and its picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from gmpq.policy import Policy
    from gmpq.search.ilp.space import Space


def write(policy: Policy, space: Space, out: Path, plot: Path | None) -> None:
    """Write ``policy``, print what it costs, and draw it into ``plot``, if that is given."""
    from gmpq.policy import file as policy_file
    from gmpq.search import plot as picture
    from gmpq.search.ilp import bounds

    policy_file.write(policy, out)
    click.echo(bounds.to_table(space, policy.layers))
    if plot is not None:
        picture.draw_policy(policy.layers, out.name, plot)
    click.echo(f"\n{out}")
