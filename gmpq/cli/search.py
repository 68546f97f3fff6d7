"""``gmpq search``: the bits of each layer, by several methods."""

from __future__ import annotations

import click

from gmpq.cli.search_gmpq import edmips_command, gmpq_command


@click.group("search")
def search_group() -> None:
    """Search for the bits of each layer, and write them as a policy."""


search_group.add_command(gmpq_command)
search_group.add_command(edmips_command)
