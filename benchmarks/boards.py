"""What programs for ARM boards take, without a board: predictions, not latencies.

    python benchmarks/boards.py layers [--docs docs/benchmarks-arm.md]
    python benchmarks/boards.py shapes [--docs docs/benchmarks-arm.md]
    python benchmarks/boards.py tiles [--processors cortex-a72] [--docs docs/benchmarks-arm.md]
    python benchmarks/boards.py assembly FILE.S --cpu cortex-a72
    python benchmarks/boards.py networks --networks resnet18 --bits w8a8,w4a4 --targets arm64
    python benchmarks/boards.py rpc --tracker 127.0.0.1:9190 --key emulated [--targets rpi4]

Programs run under qemu-user, which counts their instructions; LLVM's models of the processors turn
these into cycles. Needs: apt-get install qemu-user libc6-arm64-cross llvm-19.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path

import click

from gmpq.backends.rpc.address import Address
from gmpq.backends.rpc.pool import DevicePool
from gmpq.errors import GmpqError
from predicted import layers, loops, networks, remote, shapes, tiles
from versus import document, rows
from versus.options import NETWORKS, Names, check_names
from versus.subject import Subject

BITS = "w8a8,w6a6,w4a4,w2a2"
DOCS = click.option("--docs", type=click.Path(path_type=Path), help="Write the table there.")


@click.group()
def main() -> None:
    """Predict what programs take on boards."""


@main.command("layers")
@DOCS
def layers_command(docs: Path | None) -> None:
    """Print predicted multiplications a cycle of one layer's kernels on every processor."""
    _show("boards-layers", layers.HEADER, map(layers.row, layers.CASES), docs)


@main.command("shapes")
@DOCS
def shapes_command(docs: Path | None) -> None:
    """Print MACs a cycle of every kernel family on layers of several shapes."""
    _show("boards-shapes", shapes.HEADER, map(shapes.row, shapes.CASES), docs)


@main.command("tiles")
@click.option("--processors", type=Names(), help="As LLVM names them.  [default: all]")
@DOCS
def tiles_command(processors: tuple[str, ...] | None, docs: Path | None) -> None:
    """Print the register tile that the package picks and the best one by LLVM's model."""
    known = list(dict.fromkeys(case.processor for case in tiles.CASES))
    check_names("--processors", processors or (), known)
    _show("boards-tiles", tiles.HEADER, tiles.rows(processors or known), docs)


@main.command("assembly")
@click.argument("files", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--cpu", required=True, help="As LLVM names it.")
def assembly_command(files: tuple[Path, ...], cpu: str) -> None:
    """Print predicted multiplications a cycle of the hot loops of FILES, of whatever library."""
    header = ("file", "processor", "MACs/cycle")
    _show("boards-assembly", header, (loops.row(file, cpu) for file in files), None)


def subjects(command: Callable[..., None]) -> Callable[..., None]:
    """Add what is run: networks, bits, targets."""
    for option in (
        click.option("--networks", "names", type=Names(), default=NETWORKS[0], show_default=True),
        click.option("--bits", type=Names(), default=BITS, show_default=True),
        click.option("--targets", type=Names(), default="arm64,arm64-dotprod", show_default=True),
    ):
        command = option(command)
    return command


@main.command("networks")
@subjects
@click.option("--cycles/--no-cycles", default=True, show_default=True, help="Predict them too.")
@DOCS
def networks_command(
    names: tuple[str, ...],
    bits: tuple[str, ...],
    targets: tuple[str, ...],
    cycles: bool,
    docs: Path | None,
) -> None:
    """Compare networks with the reference on emulated processors, and count instructions."""
    check_names("--targets", targets, list(networks.PROCESSORS))
    lines = (networks.row(*each, cycles=cycles) for each in _each(names, bits, targets))
    _show("boards-networks" if cycles else "boards-exact", networks.HEADER, lines, docs)


@main.command("rpc")
@subjects
@click.option("--tracker", required=True, metavar="HOST:PORT")
@click.option("--key", required=True, help="Of the boards.")
@DOCS
def rpc_command(
    names: tuple[str, ...],
    bits: tuple[str, ...],
    targets: tuple[str, ...],
    tracker: str,
    key: str,
    docs: Path | None,
) -> None:
    """Compare networks with the reference on a pool of boards, through TVM RPC."""
    devices = DevicePool(Address.parse(tracker), key)
    lines = (remote.row(*each, devices) for each in _each(names, bits, targets))
    _show("boards-rpc", remote.HEADER, lines, docs)


def _each(
    names: Sequence[str], bits: Sequence[str], targets: Sequence[str]
) -> Iterator[tuple[Subject, str, str]]:
    for name in names:
        subject = Subject.of(name, 0)
        for target, policy in product(targets, bits):
            yield subject, policy, target


def _show(
    name: str, header: tuple[str, ...], lines: Iterator[tuple[str, ...]], docs: Path | None
) -> None:
    kept = []
    try:
        for line in lines:
            click.echo("  ".join(line), err=True)
            kept.append(line)
    except (GmpqError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    click.echo(rows.to_text(header, kept))
    if docs is not None:
        document.update(docs, name, rows.to_markdown(header, kept))


if __name__ == "__main__":
    main()
