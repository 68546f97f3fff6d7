"""Do all programs of an output directory answer alike on many labelled images, and how often right?

    python benchmarks/agreement.py tuned-native --data val.npz [--images 2000]

Every image goes through the reference, onnxruntime and the compiled program. Their outputs are
compared bit for bit. Exits with 1 if any output differs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import onnx
from numpy.typing import NDArray

from gmpq import manifest, policy_io, runtime, serialize, table
from gmpq.backends import reference
from gmpq.backends.base import Tensor
from gmpq.backends.ort.session import Options, open_session
from gmpq.compile import GRAPH, POLICY
from gmpq.data import Preprocessing, find_images
from gmpq.errors import GmpqError
from gmpq.programs import MODEL

Run = Callable[[NDArray[np.float32]], Tensor]
HEADER = ("program", "right", "other outputs", "other answers")


def programs(folder: Path) -> dict[str, Run]:
    """Return the programs of ``folder`` by name, the reference first."""
    graph = serialize.load(folder / GRAPH)
    (source,), (result,) = graph.inputs, graph.outputs
    session = open_session(onnx.load(folder / MODEL), Options())
    compiled = runtime.load(folder)

    def run(image: NDArray[np.float32]) -> Tensor:
        output = compiled.run(image)
        assert not isinstance(output, tuple), "the network has one output"
        return output

    return {
        "reference": lambda image: reference.run(graph, {source: image})[result],
        "onnxruntime": lambda image: session.run(None, {source: image})[0],
        "tvm": run,
    }


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--data", required=True, help="Labelled images, as gmpq-compile takes them.")
@click.option("--images", type=click.IntRange(1), default=2000, show_default=True)
def main(folder: Path, data: str, images: int) -> None:
    """Print how often each program is right, and how often it differs from the reference."""
    try:
        rows = compare(folder, data, images)
    except GmpqError as error:
        raise click.UsageError(str(error)) from error
    click.echo(table.render(HEADER, rows))
    sys.exit(int(any(int(outputs) for _, _, outputs, _ in rows)))


def compare(folder: Path, data: str, images: int) -> list[tuple[str, str, str, str]]:
    """Return a row per program; raises ``GmpqError``."""
    manifest.check_files(folder)
    graph = serialize.load(folder / GRAPH)
    shape = graph.values[graph.inputs[0]].shape
    how = Preprocessing.of(shape, policy_io.read(folder / POLICY).model.input)
    labelled = find_images([data], how, images)
    runs = programs(folder)
    right, outputs, answers = (dict.fromkeys(runs, 0) for _ in range(3))
    for image, label in zip(labelled.batches(1), labelled.labels, strict=True):
        found = {name: run(image) for name, run in runs.items()}
        expected = found["reference"]
        for name, output in found.items():
            right[name] += int(output.argmax() == label)
            outputs[name] += int(not np.array_equal(output, expected))
            answers[name] += int(output.argmax() != expected.argmax())
    count = len(labelled.items)
    return [
        (name, f"{right[name]} of {count}", str(outputs[name]), str(answers[name])) for name in runs
    ]


if __name__ == "__main__":
    main()
