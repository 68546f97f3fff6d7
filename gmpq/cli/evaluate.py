"""``gmpq evaluate``; what it needs is imported when it runs, so that ``--help`` answers at once."""

from __future__ import annotations

from pathlib import Path

import click

from gmpq.cli.types import PATH

EXAMPLE = """\b
Examples:
  gmpq evaluate lite0-native --data imagenet/val --limit 1000
  gmpq evaluate mine-native --data photographs/ --import mynets:build
"""


@click.command(epilog=EXAMPLE)
@click.argument("out", type=PATH)
@click.option(
    "--data",
    multiple=True,
    required=True,
    metavar="LOCATION",
    help="Folder of a folder per class, .npz with labels, or images without; repeatable.",
)
@click.option("--limit", type=click.IntRange(1), help="Most images, evenly spread.")
@click.option("--weights", help="Of the float network.  [default: the policy's]")
@click.option("--import", "factory", metavar="MODULE:FACTORY", help="Your own network.")
def evaluate(
    out: Path, data: tuple[str, ...], limit: int | None, weights: str | None, factory: str | None
) -> int:
    """Compare the programs of the directory OUT with the float network on many images.

    Prints top-1, top-5 and how often the largest class is the float network's, for the float
    network, onnxruntime and the compiled program. Exits with 1 if these two differ where they must
    not.
    """
    from gmpq.artifact import evaluate as work
    from gmpq.cli.terminal import Terminal

    request = work.Request(out, data, limit, weights, factory)
    found = work.evaluate(request, Terminal())
    click.echo(work.to_table(found))
    return 1 if found.exact and found.different else 0
