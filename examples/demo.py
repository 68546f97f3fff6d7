"""EfficientNet-Lite0 from policy to measured programs, on photographs shipped in packages.

Compiles the mixed policy and an 8-bit one for this machine, compares all programs tensor by tensor,
counts top-1 correct answers on 20 labelled photographs, and measures everything interleaved.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from gmpq import runtime, table
from gmpq.artifact import conditions, latency, parity
from gmpq.artifact.files import GRAPH, MODEL
from gmpq.artifact.latency import Plan
from gmpq.backends.base import Tensor, elapsed_ms, timing
from gmpq.backends.ort.float_baseline import to_float_onnx
from gmpq.backends.ort.session import Options, could_saturate, open_session, precision_setting
from gmpq.cli.entry import run
from gmpq.cli.terminal import Terminal
from gmpq.compile.network import Report, compile_network
from gmpq.compile.options import CompileOptions
from gmpq.export.weight_storage import WeightStorage
from gmpq.files import saved_graph
from gmpq.inputs.compile_inputs import CompileInputs, Sources, open_inputs
from gmpq.inputs.images import Images, find_images
from gmpq.lower import lower

HERE = Path(__file__).parent
POLICIES = ("efficientnet_lite0_mixed", "efficientnet_lite0_w8a8")
LABELLED = ("package:foolbox/data/imagenet_*.jpg",)
COMPILED = "compiled for native"  # as ``gmpq bench`` reports it

Run = Callable[[NDArray[np.float32]], Tensor]


@dataclass(frozen=True)
class Entrant:
    """A program in the final table."""

    name: str
    run: Run
    bops: int
    size: int  # bytes of the files that it needs
    parity: str
    settings: str


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("out"), show_default=True)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--seconds", type=float, default=20.0, show_default=True, help="Of measuring.")
def main(out: Path, threads: int, seconds: float) -> int:
    """Compile, compare, count and measure EfficientNet-Lite0; exit with 1 if programs differ."""
    torch.set_num_threads(threads)
    entrants: list[Entrant] = []
    for name in POLICIES:
        inputs = open_inputs(Sources(HERE / f"{name}.json"))
        place = out / f"{name}-native"
        report = compile_network(inputs, _options(threads), place, Terminal())
        click.echo(f"{place}\n{parity.to_table(report.parity)}\n")
        if not entrants:
            entrants.append(_float(inputs, report, out, threads))
        entrants += _quantized(name.rsplit("_", 1)[1], report, place, threads)
    labelled = find_images(LABELLED, inputs.images.preprocessing)
    click.echo(_table(entrants, labelled, threads, Plan(seconds=seconds)))
    return 1 if any(entrant.parity == "DIFFERENT" for entrant in entrants) else 0


def _options(threads: int) -> CompileOptions:
    return CompileOptions(threads=threads, storage=WeightStorage.PACKED, bench=False)


def _float(inputs: CompileInputs, report: Report, out: Path, threads: int) -> Entrant:
    network = inputs.network
    graph = lower(network.module, network.shape, network.name)
    path = out / "efficientnet_lite0_float32.onnx"
    model = to_float_onnx(graph)
    path.write_bytes(model.SerializeToString())
    size = path.stat().st_size
    return Entrant(
        "onnxruntime float32",
        _onnxruntime(path, threads, exact=False),
        report.costs.float_bops,
        size,
        "-",
        precision_setting(exact=False),
    )


def _quantized(kind: str, report: Report, place: Path, threads: int) -> list[Entrant]:
    compiled = runtime.load(place)
    compiled.set_threads(threads)
    verdict = "equal" if report.parity.equal else "DIFFERENT"
    model, library, parameters = (
        (place / name).stat().st_size for name in (MODEL, "model.so", "params.bin")
    )
    exact = could_saturate(saved_graph.load(place / GRAPH))
    ort = _onnxruntime(place / MODEL, threads, exact=exact)
    bops = report.costs.bops
    return [
        Entrant(f"onnxruntime {kind}", ort, bops, model, verdict, precision_setting(exact=exact)),
        Entrant(f"tvm {kind}", _compiled(compiled), bops, library + parameters, verdict, COMPILED),
    ]


def _compiled(network: runtime.Network) -> Run:
    def predict(image: NDArray[np.float32]) -> Tensor:
        output = network.run(image)
        assert not isinstance(output, tuple), "the network has one output"
        return output

    return predict


def _onnxruntime(path: Path, threads: int, *, exact: bool) -> Run:
    session = open_session(onnx.load(path), Options(threads=threads, exact=exact))
    (source,) = (read.name for read in session.get_inputs())
    return lambda image: session.run(None, {source: image})[0]


def _table(entrants: list[Entrant], labelled: Images, threads: int, plan: Plan) -> str:
    right = [_count_right(entrant.run, labelled) for entrant in entrants]
    image = next(labelled.batches(1))
    runs = {e.name: lambda run=e.run: elapsed_ms(lambda: run(image)) for e in entrants}
    spent = latency.interleave(runs, plan)
    rows = []
    for entrant, count in zip(entrants, right, strict=True):
        spread = timing(spent[entrant.name])
        rows.append(
            (
                entrant.name,
                f"{count} of {len(labelled.items)}",
                f"{spread.median_ms:.2f}",
                f"{spread.min_ms:.2f}",
                f"{spread.p90_ms:.2f}",
                f"{entrant.bops / 1e9:.2f} G",
                table.size(entrant.size),
                entrant.parity,
            )
        )
    header = ("program", "top-1", "median ms", "min ms", "p90 ms", "BOPs", "size", "parity")
    on = conditions.of(threads, dict(sorted({_setting(entrant) for entrant in entrants})))
    return f"EfficientNet-Lite0 {conditions.to_text(on)}\n\n{table.render(header, rows)}"


def _count_right(run: Run, images: Images) -> int:
    """Return for how many of ``images`` the largest output [1, classes] of ``run`` is the label."""
    batches = zip(images.batches(1), images.labels, strict=True)
    return sum(int(np.argmax(run(batch)) == label) for batch, label in batches)


def _setting(entrant: Entrant) -> tuple[str, str]:
    """Return a backend and its setting; the quantized networks share one."""
    return entrant.name.split()[0], entrant.settings


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:], "demo.py"))
