"""Is a compiled network as good as its float form? Both answer many images, labelled or not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import add
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from gmpq import table
from gmpq.accuracy.answers import Outputs, Tally, same, tally
from gmpq.accuracy.metrics import class_output, clipped_share
from gmpq.accuracy.report import range_warnings
from gmpq.artifact import parity
from gmpq.artifact.contents import read_contents
from gmpq.artifact.files import POLICY
from gmpq.artifact.programs import ORT, TVM, Programs
from gmpq.artifact.recheck import open_output
from gmpq.backends.base import Executable
from gmpq.backends.ort.program import OrtProgram
from gmpq.backends.ort.session import Options
from gmpq.backends.torch_float import run_outputs
from gmpq.errors import CalibrationError, LoweringError, WeightsError
from gmpq.inputs.compile_inputs import Sources, open_network
from gmpq.inputs.images import Images, Preprocessing, find_images
from gmpq.ir import FloatGraph, IntGraph, Quantize, Softmax
from gmpq.lower import lower
from gmpq.policy import file as policy_file
from gmpq.progress import Progress

FLOAT = "float"

Floats: TypeAlias = NDArray[np.float32]
Run: TypeAlias = Callable[[Floats], Outputs]


@dataclass(frozen=True, slots=True)
class Request:
    """What is evaluated, and on which images."""

    out: Path
    data: Sequence[str]
    limit: int | None = None  # images, evenly spread
    weights: str | None = None  # of the float network, where the policy's are not found
    factory: str | None = None  # package.module:factory of a user's own network


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What all programs answered."""

    images: int
    labelled: int
    answers: Mapping[str, Tally]  # by program
    different: int | None  # images that the integer programs answer differently; None: one runs
    exact: bool  # whether they have to be equal
    skipped: Mapping[str, str]  # programs that cannot run here, and why


def evaluate(request: Request, progress: Progress) -> Evaluation:
    """Return how the float network and the programs in ``request.out`` answer its images.

    Raises:
        GmpqError: the directory, the float network or the images cannot be used.
    """
    opened = open_output(request.out, read_contents(request.out))
    graph, how = _float_network(request)
    _check_fits(graph, opened.graph, request.out)
    images = find_images(request.data, how)
    for line in images.ignored:
        progress.warn(line)
    classes = class_output(graph)
    if classes is not None:
        _check_labels(images, graph.values[graph.outputs[classes]].shape[1], progress)
    chosen = images if request.limit is None else images.spread(request.limit)
    runs = _programs(opened, graph)
    total = _answer(runs, opened.graph, chosen, classes, progress)
    for warning in range_warnings(total.clipped / len(chosen.items)):
        progress.warn(warning)
    labelled = int((chosen.labels >= 0).sum()) if classes is not None else 0
    return Evaluation(
        images=len(chosen.items),
        labelled=labelled,
        answers=total.answers,
        different=total.different if opened.tvm is not None else None,
        exact=_is_exact(opened.graph),
        skipped=opened.skipped,
    )


def to_table(found: Evaluation) -> str:
    """Return a line per program as text, and whether the integer ones are equal."""
    header = ("program", "top-1", "top-5", "same class as float", "SQNR dB")
    rows = [
        (
            name,
            _share(answers.first, found.labelled),
            _share(answers.first_five, found.labelled),
            _share(answers.agreeing, found.images),
            "-" if name == FLOAT else f"{answers.sqnr_db:.1f}",
        )
        for name, answers in found.answers.items()
    ]
    lines = [f"{found.images} images, {found.labelled} with a label", table.render(header, rows)]
    if found.different is not None:
        equal = found.images - found.different
        lines.append(f"{ORT} and {TVM} return the same numbers for {equal} of {found.images}")
    return "\n".join([*lines, *(f"not run: {name}: {why}" for name, why in found.skipped.items())])


@dataclass(frozen=True, slots=True, eq=False)
class _Total:
    """What all programs answer to some images."""

    answers: Mapping[str, Tally]
    different: int
    clipped: float  # sum over images of the share of clipped numbers

    def __add__(self, other: _Total) -> _Total:
        answers = {name: mine + other.answers[name] for name, mine in self.answers.items()}
        return _Total(answers, self.different + other.different, self.clipped + other.clipped)


def _float_network(request: Request) -> tuple[FloatGraph, Preprocessing]:
    place = request.out / POLICY
    policy = policy_file.read(place)
    sources = Sources(place, request.weights, request.factory)
    try:
        network = open_network(policy, sources)
    except WeightsError as error:
        if request.weights is not None:
            raise
        cure = "name the float network's weights by --weights"
        raise WeightsError(f"{error}: {cure}") from error
    how = Preprocessing.of(network.shape, policy.model.input)
    return lower(network.module, network.shape, network.name), how


def _check_fits(graph: FloatGraph, quantized: IntGraph, out: Path) -> None:
    ours, theirs = (
        [g.values[name].shape for name in (*g.inputs, *g.outputs)] for g in (graph, quantized)
    )
    if ours != theirs:
        raise LoweringError(
            f"{graph.name}: reads and writes {ours}, the programs in {out} {theirs}: "
            "give the network that they were compiled from"
        )


def _check_labels(images: Images, classes: int, progress: Progress) -> None:
    most = int(images.labels.max())
    if most >= classes:
        raise CalibrationError(
            f"label {most}: the network has {classes} classes, labels go from 0 to "
            f"{classes - 1}: a folder's label is its position among the sorted folders"
        )
    folders = {item.parent for item in images.items if isinstance(item, Path)}
    if 1 < len(folders) < classes:
        progress.warn(
            f"{len(folders)} folders for {classes} classes: a photograph's label is the position "
            "of its folder among these, so top-1 and top-5 are wrong unless they are the first"
        )


def _programs(opened: Programs, graph: FloatGraph) -> dict[str, Run]:
    """Return what answers a batch of the network's size, by name; the float network first."""
    (source,) = opened.graph.inputs
    ort = OrtProgram.from_model(opened.model, opened.graph, Options())
    found: dict[str, Run] = {FLOAT: partial(run_outputs, graph), ORT: partial(_run, ort, source)}
    if opened.tvm is not None:
        found[TVM] = partial(_run, opened.tvm, source)
    return found


def _run(program: Executable, source: str, batch: Floats) -> Outputs:
    return tuple(program.run({source: batch}).values())


def _answer(
    runs: Mapping[str, Run],
    graph: IntGraph,
    images: Images,
    classes: int | None,
    progress: Progress,
) -> _Total:
    size = graph.values[graph.inputs[0]].shape[0]
    totals = []
    with progress.bar("evaluating", len(images.items)) as advance:
        for number, batch in enumerate(images.batches(size)):
            whole = np.resize(batch, (size, *batch.shape[1:]))  # the last one may be smaller
            labels = images.labels[number * size :][: len(batch)]
            found = {n: tuple(x[: len(batch)] for x in run(whole)) for n, run in runs.items()}
            answers = {n: tally(x, found[FLOAT], labels, classes) for n, x in found.items()}
            different = int((~same(found[ORT], found.get(TVM, found[ORT]))).sum())
            totals.append(_Total(answers, different, _clipped(graph, batch) * len(batch)))
            advance(len(batch))
    return reduce(add, totals)


def _clipped(graph: IntGraph, batch: Floats) -> float:
    shares = [
        clipped_share(batch, q)
        for node in graph.nodes
        if isinstance(node, Quantize) and (q := graph.values[node.output].q) is not None
    ]
    return max(shares, default=0.0)


def _is_exact(graph: IntGraph) -> bool:
    """Return whether onnxruntime has to return the same numbers as the compiled program."""
    softmax = any(isinstance(node, Softmax) for node in graph.nodes)
    return not softmax and not parity.depends_on_average(graph)


def _share(count: int | None, total: int) -> str:
    return "-" if count is None else f"{count} of {total} ({count / total:.1%})"
