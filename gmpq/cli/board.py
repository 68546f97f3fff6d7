"""``gmpq board``, and the part of ``gmpq bench`` that runs on boards."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gmpq.cli.cache import user_cache
from gmpq.cli.options import grouped
from gmpq.cli.renamed import RenamedOptions
from gmpq.cli.search_options import CandidateOptions, calibrated_options, candidate_options
from gmpq.cli.types import PATH, POSITIVE
from gmpq.search.ilp.candidates import Candidates

if TYPE_CHECKING:
    from gmpq.backends.rpc.pool import DevicePool
    from gmpq.backends.rpc.tasks import RunConfig
    from gmpq.search.network_source import NetworkSource

WHEELS = click.option(
    "--wheels", type=PATH, help="Folder with TVM's wheels for the board.  [default: pip fetches]"
)


def repeat_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add how often programs are timed on boards, as argument ``repeat``."""
    return click.option(
        "--repeat",
        type=click.IntRange(0, 100_000),
        default=30,
        show_default=True,
        help="Timed runs on a board; 0 only compares.",
    )(command)


def device_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that name boards, as the argument ``devices``, or None."""

    @click.option("--tracker", metavar="HOST:PORT", help="Run on boards that this tracker has.")
    @click.option("--key", help="Of the boards, as rpi4.")
    @click.option("--boards", type=click.IntRange(1, 64), default=1, show_default=True)
    @click.option(
        "--deadline",
        type=POSITIVE,
        default=600.0,
        show_default=True,
        help="Seconds until boards must be done.",
    )
    @functools.wraps(command)
    def run(
        *, tracker: str | None, key: str | None, boards: int, deadline: float, **rest: Any
    ) -> Any:
        return command(devices=_devices(tracker, key, boards, deadline), **rest)

    return run


def _devices(
    tracker: str | None, key: str | None, boards: int, deadline: float
) -> DevicePool | None:
    if tracker is None and key is None:
        return None
    if tracker is None or key is None:
        raise click.UsageError("boards need both: --tracker HOST:PORT --key KEY")
    from gmpq.backends.rpc.address import Address
    from gmpq.backends.rpc.pool import DevicePool

    return DevicePool(Address.parse(tracker), key, boards, deadline, distinct=True)


def bench_on_boards(
    out: Path, devices: DevicePool, threads: int, repeat: int, *, layers: bool
) -> int:
    """Print what boards find about the program in ``out``; return 1 if they differ."""
    from gmpq.backends.rpc.tasks import RunConfig
    from gmpq.boards import bench
    from gmpq.cli.terminal import Terminal

    results = bench.bench(out, devices, RunConfig(threads, repeat), Terminal().stage)
    click.echo(bench.to_text(results, layers=layers))
    if any(session.emulated for session in results.sessions):
        print_instructions(out)
    return 0 if results.equal else 1


def print_instructions(out: Path) -> None:
    """Print how many instructions the program in ``out`` takes, if it is emulated here."""
    from gmpq.artifact.recheck import instructions_of

    found = instructions_of(out)
    if found is not None:
        click.echo(f"\n{found}")


THREADS = click.option("--threads", type=click.IntRange(1, 256), default=1, show_default=True)


def _run_config(threads: int, repeat: int) -> RunConfig:
    from gmpq.backends.rpc.tasks import RunConfig

    return RunConfig(threads, repeat)


@click.command(
    cls=RenamedOptions,
    epilog="\b\nExample:\n  gmpq profile network.json --calibration photographs/ --target rpi4 \\\n"
    "      --tracker 192.168.0.2:9190 --key rpi4 --weight-bits 2,4,8 --input-bits 4,8 -o rpi4.json",
)
@calibrated_options
@click.option("--target", required=True, help="What the boards are, as rpi4.")
@candidate_options(Candidates())
@grouped("config", _run_config, (THREADS, repeat_option))
@device_options
@click.option("-o", "--out", type=PATH, required=True, help="Latency table to write.")
def profile(
    source: NetworkSource,
    target: str,
    candidates: CandidateOptions,
    config: RunConfig,
    devices: DevicePool | None,
    out: Path,
) -> int:
    """Measure every layer of NETWORK at all bits on boards, for gmpq search --latency-table.

    NETWORK is a policy or the name of a built-in network. The exit code is 1 if pairs are missing.
    """
    if devices is None or config.repeat == 0:
        raise click.UsageError("give --tracker HOST:PORT and --key KEY, and --repeat above 0")
    from gmpq.cli.terminal import Terminal
    from gmpq.errors import OutputError
    from gmpq.search.latency import profile as profiling

    if not out.parent.is_dir():
        raise OutputError(f"{out}: there is no folder {out.parent}: make it")
    among = candidates.candidates()
    shared = replace(devices, distinct=False)
    found = profiling.profile(source, among, target, shared, config, Terminal())
    profiling.write(found.table, out)
    click.echo("\n".join((f"{out}: {found.table['target']}", *found.missing)))
    return 1 if found.missing else 0


@click.group()
def board() -> None:
    """Make a board, or an emulated one, serve gmpq bench --tracker."""


@board.command("build", epilog="\b\nExample:\n  gmpq board build --target rpi4 -o board-rpi4")
@click.option("--target", required=True, help="What the board is, as rpi4.")
@click.option("-o", "--out", type=PATH, help="Folder to write.  [default: board-TARGET]")
@WHEELS
def build_command(target: str, out: Path | None, wheels: Path | None) -> None:
    """Write the folder to copy to a board: server, libraries, start script."""
    from gmpq.backends.tvm.target import rename_warnings
    from gmpq.boards.package import build_board

    place = out or Path(f"board-{target}")
    build_board(target, wheels, place)
    for warning in rename_warnings(target):
        click.echo(warning, err=True)
    click.echo(f"{place}: copy it to the board; its README.md says how to start it")


@board.command(
    "emulate",
    epilog="\b\nExample:\n"
    "  gmpq board emulate --cpu cortex-a72 --tracker 127.0.0.1:9190 --key rpi4",
)
@click.option("--cpu", required=True, help="As qemu-aarch64 names it.")
@click.option("--tracker", required=True, metavar="HOST:PORT")
@click.option("--key", required=True, help="What clients ask for.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="[default: a free one]")
@click.option("--limit", type=click.IntRange(1), default=600, show_default=True, metavar="SECONDS")
@WHEELS
def emulate_command(
    cpu: str, tracker: str, key: str, port: int, limit: int, wheels: Path | None
) -> None:
    """Serve as an emulated board until interrupted; its times are no latencies."""
    from gmpq.boards.package import Serving, emulation

    command = emulation(Serving(cpu, tracker, key, port, limit), wheels, user_cache())
    sys.stdout.flush()
    os.execvp(command[0], command)
