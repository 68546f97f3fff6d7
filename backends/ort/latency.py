"""How long onnxruntime takes for each layer, by its profiler."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import onnx
from onnx import ModelProto

from gmpq.backends.base import Tensor, flusher
from gmpq.backends.ort.optimized import owners
from gmpq.backends.ort.session import Options, could_saturate, open_session, run
from gmpq.files import temporary
from gmpq.ir import IntGraph

KERNEL = "_kernel_time"


def layer_samples(
    model: ModelProto,
    graph: IntGraph,
    inputs: Mapping[str, Tensor],
    threads: int,
    runs: int,
    flush_bytes: int = 0,
) -> dict[str, list[float]]:
    """Return the milliseconds of each node of ``graph`` in each run, in execution order.

    A node's time is the sum over the operators that onnxruntime runs for it, clips and changes of
    memory layout included; the profiler counts in whole microseconds. A node that costs no operator
    has no entry. ``model`` was written from ``graph``; ``inputs`` are float32 by name, in the
    graph's shapes. ``flush_bytes`` are read before each run.

    Raises:
        TargetError: if this onnxruntime cannot load the model, or refuses the inputs.
    """
    with temporary.folder() as place:
        options = Options(
            threads=threads,
            exact=could_saturate(graph),
            optimized=place / "optimized.onnx",
            profile=place / "profile",
        )
        session = open_session(model, options)
        flush = flusher(flush_bytes)
        for _ in range(runs):
            flush()
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
