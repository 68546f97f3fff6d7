"""``gmpq search``: commands that write policies."""

from __future__ import annotations

import click

from gmpq.cli.search_gmpq import edmips_command, gmpq_command


@click.group()
def search() -> None:
    """Choose the bits of every layer, and write them as a policy."""


search.add_command(gmpq_command)
search.add_command(edmips_command)
