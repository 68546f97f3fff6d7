"""The commands; what they need is imported when they run, so that ``--help`` answers at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gmpq.backends.tvm.tuning.level import TuningLevel
from gmpq.cli.board import (
    bench_on_boards,
    board,
    device_options,
    print_instructions,
    profile,
    repeat_option,
)
from gmpq.cli.cache import tuning_cache
from gmpq.cli.evaluate import evaluate
from gmpq.cli.finetune import finetune
from gmpq.cli.options import Command, field_option, sources_options
from gmpq.cli.search import search
from gmpq.cli.types import OBSERVER, PATH, WEIGHT_OBSERVER, Ratio
from gmpq.compile.options import CompileOptions
from gmpq.files.locations import plain_name, refuse_models

if TYPE_CHECKING:
    from gmpq.backends.rpc.pool import DevicePool
    from gmpq.compile.network import Report
    from gmpq.inputs.compile_inputs import Sources

EXAMPLE = """\b
Example:
  gmpq-compile examples/efficientnet_lite0_mixed.json --target native --out lite0-native
  gmpq-compile policy.json --target arm64 --calibration photographs/
"""
NOT_TIMED = (
    "not timed: its programs are for another machine: gmpq bench there, or --tracker, on boards"
)


class Group(click.Group):
    """Lists its commands in the order in which a user meets them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of definition."""
        return list(self.commands)


@click.group(cls=Group)
@click.version_option(package_name="gmpq")
def group() -> None:
    """Compile mixed-precision quantization policies into fast, verified programs."""


COMPILE_OPTIONS = (
    field_option(
        CompileOptions, "target", help="What to compile for: a name, or TRIPLE,CPU[,+FEATURE...]."
    ),
    click.option("--out", type=PATH, help="Directory to write.  [default: POLICY-TARGET]"),
    sources_options,
    field_option(CompileOptions, "observer", type=OBSERVER, help="How ranges are chosen."),
    field_option(
        CompileOptions,
        "weight_observer",
        type=WEIGHT_OBSERVER,
        help="How weight scales are chosen.",
    ),
    field_option(CompileOptions, "equalize", help="Equalize ranges across layers first."),
    field_option(CompileOptions, "bias_correct", help="Correct biases on the calibration data."),
    field_option(
        CompileOptions,
        "threads",
        type=click.IntRange(1, 256),
        help="What kernels are chosen for, and measured on.",
    ),
    field_option(
        CompileOptions,
        "storage",
        flag="weight-storage",
        help="How model.onnx holds weights of 4 bits and less.",
    ),
    field_option(
        CompileOptions,
        "tune",
        help="Measure kernels per layer: none, the most promising, all; results are remembered.",
    ),
    device_options,
    field_option(
        CompileOptions,
        "max_params_ratio",
        type=Ratio(),
        help="Bytes that TVM's program may hold per weight, where kernels trade size for speed; "
        "or none.  [default: 1.5 on ARM, none on x86]",
    ),
    field_option(
        CompileOptions, "embed_params", help="Put the parameters into model.so and model.a."
    ),
    field_option(CompileOptions, "name", help="What C functions begin with: lite0_run."),
    click.option(
        "--no-bench", "bench", flag_value=False, default=True, help="Do not measure latency."
    ),
    click.option("--explain", is_flag=True, help="Print the costs and the kernel of every layer."),
)


def compile_options(command: Command) -> Command:
    """Add the options of a compile, in the order of ``--help``."""
    for option in reversed(COMPILE_OPTIONS):
        command = option(command)
    return command


@group.command("compile", epilog=EXAMPLE)
@compile_options
def compile_command(
    sources: Sources, out: Path | None, devices: DevicePool | None, explain: bool, **chosen: Any
) -> int:
    """Compile POLICY into a directory of verified, measured programs.

    The directory holds model.onnx, the ahead-of-time program (model.so, model.a, params.bin,
    model.h, classify.c), parity.json, latency.json and manifest.json. It appears when all is done,
    or not at all.
    """
    options = CompileOptions(**chosen, tuned=tuning_cache())
    options = replace(options, devices=_tuning_on(devices, options.tune))
    default = Path(f"{sources.policy.stem}-{plain_name(options.target)}")
    return _compile(sources, options, out or default, explain)


def _tuning_on(devices: DevicePool | None, level: TuningLevel) -> DevicePool | None:
    """Return the boards that measure kernels, which share the layers among them."""
    if devices is None:
        return None
    if level is TuningLevel.OFF:
        raise click.UsageError("boards measure kernels: give --tune quick or --tune full too")
    return replace(devices, distinct=False)


@group.command(epilog="\b\nExample:\n  gmpq verify lite0-native")
@click.argument("out", type=PATH)
def verify(out: Path) -> int:
    """Compare all programs of the directory OUT again; exit with 1 if they differ.

    Every file is first compared with its digest in manifest.json.
    """
    from gmpq.artifact import parity
    from gmpq.artifact.recheck import check_again

    refuse_models(out, "gmpq verifies directories that it compiled")
    found = check_again(out)
    click.echo(parity.to_table(found))
    return 0 if found.equal else 1


@group.command(
    epilog="\b\nExamples:\n  gmpq bench lite0-native --threads 2 --layers\n"
    "  gmpq bench lite0-rpi4 --tracker 192.168.0.2:9190 --key rpi4 --boards 2"
)
@click.argument("out", type=PATH)
@click.option("--threads", type=click.IntRange(1, 256), default=1, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.1), default=10.0, show_default=True)
@click.option("--layers", is_flag=True, help="Print the time of every layer too.")
@device_options
@repeat_option
def bench(
    out: Path, threads: int, seconds: float, layers: bool, devices: DevicePool | None, repeat: int
) -> int:
    """Measure the programs of the directory OUT on this machine, interleaved.

    With --tracker: run its program of TVM on boards, compare every value with the reference (exit
    with 1 if they differ), and measure it there.
    """
    if devices is not None:
        return bench_on_boards(out, devices, threads, repeat, layers=layers)
    from gmpq.artifact import latency
    from gmpq.artifact.recheck import measure_again

    refuse_models(out, "gmpq measures directories that it compiled")
    measured = measure_again(out, threads, latency.Plan(seconds=seconds))
    click.echo(latency.to_text(measured) if measured.rows else NOT_TIMED)
    if layers and measured.rows:
        click.echo("\n" + latency.to_layer_table(measured.rows))
    print_instructions(out)
    return 0


@group.command(
    epilog="\b\nExamples:\n  gmpq explain examples/resnet18_w4a4.json --costs\n"
    "  gmpq explain resnet18-native\n  gmpq explain resnet18-native --loss"
)
@click.argument("path", type=PATH)
@click.option("--costs", is_flag=True, help="Print MACs, BOPs and bytes of every layer.")
@click.option("--loss", is_flag=True, help="Print the loss of every node of a directory in dB.")
@click.option("--import", "factory", metavar="MODULE:FACTORY", help="Your own network.")
@click.option("--plot", type=PATH, help="Draw the bits of a policy: .png, .svg or .pdf.")
def explain(path: Path, costs: bool, loss: bool, factory: str | None, plot: Path | None) -> None:
    """Explain PATH: a policy, or an output directory.

    Of a policy: the layers of its network with their bits. Of a directory: the kernel of every
    layer, its time, and why other kernels were refused; or what every node costs in accuracy.
    """
    if path.is_dir():
        from gmpq.artifact.recheck import explain_loss, explain_output

        click.echo(explain_loss(path) if loss else explain_output(path))
        return
    if loss:
        raise click.UsageError(f"--loss is of a compiled directory, {path} is none: compile it")
    from gmpq.artifact.explain import bits_of_policy, costs_of_policy, layers_of_policy
    from gmpq.inputs.compile_inputs import Sources

    sources = Sources(path, factory=factory)
    if plot is not None:
        from gmpq.search.plot import draw_policy

        draw_policy(bits_of_policy(sources), path.name, plot)
    click.echo(costs_of_policy(sources) if costs else layers_of_policy(sources))


for command in (evaluate, search, finetune, profile, board):
    group.add_command(command)


def _compile(sources: Sources, options: CompileOptions, out: Path, explain: bool) -> int:
    from gmpq.artifact.staging import check_replaceable
    from gmpq.cli.terminal import Terminal
    from gmpq.compile.network import compile_network
    from gmpq.inputs.compile_inputs import open_inputs

    check_replaceable(out)
    report = compile_network(open_inputs(sources), options, out, Terminal())
    _print_report(report, out, bench=options.bench, explain=explain)
    return 0 if report.parity.equal else 1


def _print_report(report: Report, out: Path, *, bench: bool, explain: bool) -> None:
    from gmpq import table
    from gmpq.accuracy.report import summary
    from gmpq.artifact import latency, parity
    from gmpq.artifact.explain import kernels_table
    from gmpq.passes import cost

    if explain:
        kernels = kernels_table(report.kernels, latency.to_json(report.latency)["rows"])
        click.echo(f"{cost.to_table(report.costs)}\n\n{kernels}\n")
    click.echo(parity.to_table(report.parity) + "\n")
    click.echo(summary(report.loss) + "\n")
    if bench:
        click.echo((latency.to_text(report.latency) if report.latency.rows else NOT_TIMED) + "\n")
    for fallback in report.fusion.fallbacks:
        click.echo(f"onnxruntime: {fallback}")
    files = ", ".join(
        f"{path.name} {table.size(path.stat().st_size)}" for path in sorted(out.iterdir())
    )
    click.echo(f"{out}: {files}")
