"""How long onnxruntime takes: the whole network by the clock, each layer by its profiler."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
from onnx import ModelProto

from gmpq.backends.base import Tensor, Timing, timing
from gmpq.backends.ort.optimized import owners
from gmpq.backends.ort.session import Options, open_session, run
from gmpq.ir import IntGraph

KERNEL = "_kernel_time"


def time_network(
    model: ModelProto, inputs: Mapping[str, Tensor], threads: int, runs: int = 50, warmup: int = 10
) -> Timing:
    """Return the time of whole runs of ``model``, fetching its outputs included."""
    session = open_session(model, Options(threads=threads))
    samples_ms = []
    for _ in range(warmup + runs):
        start = time.perf_counter()
        run(session, inputs)
        samples_ms.append((time.perf_counter() - start) * 1e3)
    return timing(samples_ms[warmup:])


def time_layers(
    model: ModelProto,
    graph: IntGraph,
    inputs: Mapping[str, Tensor],
    threads: int,
    runs: int = 50,
    warmup: int = 10,
) -> dict[str, Timing]:
    """Return the time of each node of ``graph`` from which ``model`` was written.

    A node's time is the sum over the operators that onnxruntime runs for it, clips and changes of
    memory layout included; the profiler counts in whole microseconds. A node that costs no operator
    is absent.
    """
    samples = layer_samples(model, graph, inputs, threads, warmup + runs)
    return {name: timing(times_ms[warmup:]) for name, times_ms in samples.items()}


def layer_samples(
    model: ModelProto, graph: IntGraph, inputs: Mapping[str, Tensor], threads: int, runs: int
) -> dict[str, list[float]]:
    """Return the milliseconds of each node of ``graph`` in each run, in execution order."""
    with TemporaryDirectory(prefix="gmpq-") as directory:
        place = Path(directory)
        options = Options(
            threads=threads, optimized=place / "optimized.onnx", profile=place / "profile"
        )
        session = open_session(model, options)
        for _ in range(runs):
            run(session, inputs)
        durations = _durations_ms(Path(session.end_profiling()))
        owner = owners(onnx.load(place / "optimized.onnx"), graph)
    totals: dict[str, list[float]] = {}
    for node in graph.nodes:
        parts = [times for name, times in durations.items() if owner.get(name) == node.name]
        if parts:
            totals[node.name] = [sum(times) for times in zip(*parts, strict=True)]
    return totals


def _durations_ms(profile: Path) -> dict[str, list[float]]:
    durations: dict[str, list[float]] = defaultdict(list)
    for event in json.loads(profile.read_text(encoding="utf-8")):
        if event.get("cat") == "Node" and event["name"].endswith(KERNEL):
            durations[event["name"].removesuffix(KERNEL)].append(event["dur"] / 1e3)
    return dict(durations)
