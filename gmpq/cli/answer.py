"""What every search ends with: the policy in a file, its costs as a table, and its plot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from gmpq.policy import Policy
    from gmpq.search.ilp.space import Space


@dataclass(frozen=True, slots=True)
class Output:
    """The policy file to write, and the plot of it, if there is to be one."""

    out: Path
    plot: Path | None = None

    def __post_init__(self) -> None:
        """Refuse places where nothing can be written; raises ``OutputError``."""
        from gmpq.errors import OutputError

        for path in (self.out, self.plot):
            if path is not None and not path.parent.is_dir():
                raise OutputError(f"{path}: there is no folder {path.parent}: make it")
            if path is not None and path.is_dir():
                raise OutputError(f"{path}: is a folder: give the name of a file")

    def suffixed(self, suffix: str) -> Output:
        """Return the same places with ``suffix`` after the names."""
        plot = self.plot and self.plot.with_stem(self.plot.stem + suffix)
        return Output(self.out.with_stem(self.out.stem + suffix), plot)


def write(policy: Policy, space: Space, output: Output) -> None:
    """Write ``policy``, print its costs, and draw it if a plot is asked for."""
    from gmpq.policy import file as policy_file
    from gmpq.search.ilp import bounds
    from gmpq.search.plot import draw_policy

    policy_file.write(policy, output.out)
    click.echo(bounds.to_table(space, policy.layers))
    if output.plot is not None:
        draw_policy(policy.layers, output.out.name, output.plot)
    click.echo(f"\n{output.out}: written")
