"""gmpq compared with onnxruntime, OpenVINO and LiteRT: same network, input and threads, one run.

    python benchmarks/baselines.py --networks resnet18 --bits w8a8,w4a4 --threads 1
    python benchmarks/baselines.py --correlation --networks resnet18 --plot docs/bops.svg

Networks have random weights with realistic activations. The baselines run int8 for every policy,
since none of them is faster on fewer bits; the ratio is the best int8 baseline's time over gmpq's.
Needs the extra ``bench``, as `make bench` installs it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from gmpq.backends.tvm.tuning.level import TuningLevel
from gmpq.errors import GmpqError
from versus import report
from versus.names import TOOLS
from versus.options import BITS, NATIVE, NETWORKS, Counts, Names, Options

FILE = click.Path(path_type=Path, dir_okay=False)
TUNING_LEVELS = click.Choice([level.value for level in TuningLevel])
FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.option("--networks", type=Names(), default=",".join(NETWORKS), show_default=True)
@click.option("--bits", type=Names(), default=",".join(BITS), show_default=True)
@click.option("--threads", type=Counts(), default="1,2", show_default=True)
@click.option("--tools", type=Names(), default=",".join(TOOLS), show_default=True)
@click.option("--seconds", default=10.0, show_default=True, help="Time of one interleaved run.")
@click.option("--seed", default=0, show_default=True, help="Of weights, images and mixed policies.")
@click.option("--target", default=NATIVE, show_default=True, help="What gmpq compiles for.")
@click.option(
    "--tune", type=TUNING_LEVELS, default="off", show_default=True, help="As in gmpq-compile."
)
@click.option("--correlation", is_flag=True, help="Correlate BOPs and milliseconds of 12 policies.")
@click.option("--onnx", type=FILE, help="Float model that the baselines run instead.")
@click.option("--cache", type=FOLDER, help="Keep the baselines' files here, for the next run.")
@click.option("--json", type=FILE, help="Write one row per network, policy, threads and tool.")
@click.option("--docs", type=FILE, help="Put the tables into this document.")
@click.option("--plot", type=FILE, help="Draw the correlation, as .svg or .png.")
@click.pass_context
def main(context: click.Context, /, **_: object) -> None:
    """Compare gmpq with its baselines; exit with 1 if a program of gmpq is not exact."""
    try:
        found = report.run(Options(**context.params))  # an option is a field
    except GmpqError as error:
        raise click.UsageError(str(error)) from error
    sys.exit(any(row.exact is False for row in found))


if __name__ == "__main__":
    main()
