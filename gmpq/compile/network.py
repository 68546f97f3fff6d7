"""The main job: a policy, a network and images become a verified, measured directory.

    report = compile_network(inputs, CompileOptions(target="native"), Path("resnet18-native"))

The directory holds ``model.onnx``, the program of TVM, what ``gmpq verify`` repeats the comparison
from (``graph.safetensors``, ``samples.safetensors``), ``policy.json``, ``parity.json``,
``latency.json`` and ``manifest.json``. It appears when everything is done, or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from math import inf
from pathlib import Path
from typing import Any

from gmpq.accuracy import loss as losses
from gmpq.accuracy.advice import calibration_warnings
from gmpq.accuracy.loss import Loss
from gmpq.accuracy.measure import Extent, measure
from gmpq.accuracy.report import distance_warnings, range_warnings
from gmpq.artifact import latency, parity, programs, samples
from gmpq.artifact.explain import Kernel
from gmpq.artifact.files import GRAPH, LATENCY, MODEL, PARITY, POLICY, SAMPLES
from gmpq.artifact.latency import Measured
from gmpq.artifact.parity import Parity
from gmpq.artifact.samples import Inputs
from gmpq.artifact.staging import staged
from gmpq.backends.ort.fusion import FusionReport
from gmpq.backends.ort.fusion import report as fusion_report
from gmpq.backends.tvm import target as targets
from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.codegen.form import Form
from gmpq.backends.tvm.codegen.header import check_prefix
from gmpq.backends.tvm.plan.plan import PlanOptions, Step
from gmpq.backends.tvm.target import Target
from gmpq.backends.tvm.tuning.boards import device_model, tuned_on
from gmpq.backends.tvm.tuning.tune import Tuning, tuned
from gmpq.calib.sweep import sweep
from gmpq.compile.options import CompileOptions, refuse_on_gpus
from gmpq.errors import LoweringError
from gmpq.export.onnx import serialize as to_bytes
from gmpq.export.onnx import to_onnx
from gmpq.files import manifest, saved_graph
from gmpq.inputs.compile_inputs import CompileInputs
from gmpq.ir import FloatGraph, IntGraph
from gmpq.lower import lower
from gmpq.lower.fidelity import lowering_error
from gmpq.passes import cost
from gmpq.passes.check_trained import check_trained
from gmpq.passes.cost import NetworkCost
from gmpq.passes.equalize import equalize
from gmpq.passes.ptq import QuantizeOptions, quantize_network
from gmpq.policy import LayerBits, bind, differing_calls
from gmpq.policy import file as policy_file
from gmpq.program import Program
from gmpq.progress import Progress, Silent

LOSS = "loss"  # the section of parity.json
MOST_LOWERING_ERROR = 1e-3  # of the largest output; rounding alone is about 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """What a compile found out."""

    costs: NetworkCost
    lowering_error: float
    fusion: FusionReport
    kernels: tuple[Kernel, ...]
    parity: Parity
    latency: Measured
    loss: Loss
    warnings: tuple[str, ...]  # one line each


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """What is known before anything is written."""

    target: Target
    warnings: tuple[str, ...]  # on its name
    board: str | None  # that kernels are measured on, instead of this machine
    params_ratio: float  # that the weights of TVM's program keep
    quantization: QuantizeOptions
    graph: FloatGraph
    bits: Mapping[str, LayerBits]
    costs: NetworkCost
    samples: list[Inputs]
    lowering_error: float


@dataclass(frozen=True, slots=True, eq=False)
class _Built:
    """The programs that were written."""

    fusion: FusionReport
    kernels: tuple[Kernel, ...]
    program: Program


def compile_network(
    inputs: CompileInputs, options: CompileOptions, out: Path, progress: Progress | None = None
) -> Report:
    """Compile ``inputs`` into the directory ``out`` and return what was found out.

    Raises:
        GmpqError: the user's mistake, reported in one line; nothing is written then.
    """
    progress = progress or Silent()
    plan = _prepare(inputs, options, progress)
    with staged(out) as work:
        graph, advice = _quantize(inputs, plan, options, progress)
        loss = _lose(inputs, plan, graph, progress)
        early = (*plan.warnings, *inputs.warnings, *differing_calls(plan.bits))
        warnings = (*early, *advice, *_loss_warnings(inputs, plan, loss))
        built = _write_programs(graph, plan, options, work, progress)
        opened = programs.open_programs(work, graph, options.storage, plan.target, built.program)
        progress.stage("comparing all programs")
        found = programs.check(opened, plan.samples)
        measured = _measure(opened, plan, options, progress) if options.bench else Measured()
        _write_json(work / PARITY, parity.to_json(found) | {LOSS: losses.to_json(loss)})
        _write_json(work / LATENCY, latency.to_json(measured))
        policy_file.write(inputs.policy_in(out), work / POLICY)
        fields = _fields(inputs, plan, options, graph, built, measured)
        manifest.write(work, fields | {"warnings": list(warnings)})
    for warning in warnings:
        progress.warn(warning)
    return Report(
        costs=plan.costs,
        lowering_error=plan.lowering_error,
        fusion=built.fusion,
        kernels=built.kernels,
        parity=found,
        latency=measured,
        loss=loss,
        warnings=warnings,
    )


def _prepare(inputs: CompileInputs, options: CompileOptions, progress: Progress) -> _Plan:
    check_prefix(options.name)
    target, renamed = targets.find(options.target), targets.rename_warnings(options.target)
    refuse_on_gpus(options)
    board = (
        None if options.devices is None else device_model(options.devices, target, progress.stage)
    )
    quantization = QuantizeOptions.named(
        options.observer, options.weight_observer, options.bias_correct, inputs.policy.output_bits
    )
    network = inputs.network
    progress.stage(f"reading {network.name}")
    graph = lower(network.module, network.shape, network.name)
    bits = bind(inputs.policy, cost.layer_names(graph))
    if inputs.quantized is not None:
        check_trained(inputs.quantized, graph, bits, inputs.policy.output_bits)
    (source,) = graph.inputs
    runs = samples.take(inputs.images, source, network.shape, options.samples)
    error = lowering_error(network.module, graph, runs[0][source])
    if not error < MOST_LOWERING_ERROR:
        raise LoweringError(
            f"{network.name}: the lowered network differs from the module by {error:.1e} of its "
            "largest output: the module's outputs depend on more than its input"
        )
    costs = cost.measure(graph, bits, inputs.policy.output_bits)
    rewritten = equalize(graph) if options.equalize else graph
    ratio = options.max_params_ratio or target.params_ratio
    return _Plan(target, renamed, board, ratio, quantization, rewritten, bits, costs, runs, error)


def _quantize(
    inputs: CompileInputs, plan: _Plan, options: CompileOptions, progress: Progress
) -> tuple[IntGraph, tuple[str, ...]]:
    """Return the integer graph, and warnings on what it is calibrated with."""
    images = inputs.images
    if inputs.quantized is not None:
        return inputs.quantized, ()
    with progress.bar("calibrating", len(images.items)) as advance:
        statistics = sweep(plan.graph, images.batches(options.batch), advance)
    progress.stage("quantizing")
    graph = quantize_network(plan.graph, plan.bits, statistics, plan.quantization)
    return graph, calibration_warnings(
        plan.graph, plan.bits, statistics, images.preprocessing, inputs.policy.output_bits
    )


def _lose(inputs: CompileInputs, plan: _Plan, graph: IntGraph, progress: Progress) -> Loss:
    macs = plan.costs.macs // inputs.network.shape[0]
    extent = Extent.of(plan.graph, graph, macs, len(inputs.images.items))
    with progress.bar("measuring loss", extent.images) as advance:
        return measure(plan.graph, graph, inputs.images, extent, advance)


def _loss_warnings(inputs: CompileInputs, plan: _Plan, loss: Loss) -> tuple[str, ...]:
    if inputs.quantized is not None:  # trained at its bits, far from its float weights
        return range_warnings(loss.clipped)
    return (*range_warnings(loss.clipped), *distance_warnings(loss, plan.bits))


def _write_programs(
    graph: IntGraph, plan: _Plan, options: CompileOptions, work: Path, progress: Progress
) -> _Built:
    saved_graph.save(graph, work / GRAPH)
    samples.write(plan.samples, work / SAMPLES)
    progress.stage(f"writing {MODEL}")
    model = to_onnx(graph, options.storage)
    (work / MODEL).write_bytes(to_bytes(model))
    progress.stage(f"compiling for {plan.target.name}")
    choose = tuned(
        _tuning(graph, plan, options, progress), lambda layer: progress.stage(f"tuning {layer}")
    )
    form = Form(static=True, embed_params=options.embed_params, prefix=options.name)
    planning = PlanOptions(
        max_weight_bytes=plan.params_ratio,
        threads=options.threads,
        on_layer=lambda layer: progress.stage(f"choosing a kernel for {layer}"),
    )
    built = build(graph, plan.target, work, choose, form, planning)
    kernels = tuple(_kernel(step) for step in built.plan.steps)
    return _Built(fusion_report(model, graph), kernels, built.program)


def _tuning(graph: IntGraph, plan: _Plan, options: CompileOptions, progress: Progress) -> Tuning:
    """Return how kernels are chosen, after measuring them on boards, if any."""
    warn = cache(progress.warn)  # each warning once, not with every layer
    tuning = Tuning(options.tune, options.threads, options.tuned, plan.board, warn=warn)
    if options.devices is None:
        return tuning
    return tuned_on(options.devices, graph, plan.target, tuning, progress.stage)


def _kernel(step: Step) -> Kernel:
    name = f"{step.kernel} {step.configuration}".rstrip()
    return Kernel(step.node, name, step.refusals, step.measured_ms)


def _measure(
    opened: programs.Programs, plan: _Plan, options: CompileOptions, progress: Progress
) -> Measured:
    progress.stage("measuring")
    found = programs.entries(opened, plan.samples[0], options.threads)
    return latency.measure(found, options.threads, _bops(plan.costs), latency.Plan())


def _fields(
    inputs: CompileInputs,
    plan: _Plan,
    options: CompileOptions,
    graph: IntGraph,
    built: _Built,
    measured: Measured,
) -> dict[str, Any]:
    return {
        "network": graph.name,
        "target": plan.target.name,
        "tuned_on": plan.board,
        "measured_on": latency.to_json(measured)["measured_on"],
        **manifest.interface(graph),
        "preprocessing": asdict(inputs.images.preprocessing),
        "options": options.to_json(),
        "max_params_ratio": None if plan.params_ratio == inf else plan.params_ratio,
        "calibration_images": 0 if inputs.quantized is not None else len(inputs.images.items),
        "lowering_error": plan.lowering_error,
        "layers": {name: asdict(bits) for name, bits in plan.bits.items()},
        "bops": _bops(plan.costs),
        "kernels": [asdict(kernel) for kernel in built.kernels],
        "tvm": built.program.to_json(),
        "onnxruntime": built.fusion.to_json(),
    }


def _bops(costs: NetworkCost) -> dict[str, int]:
    return {layer.name: layer.bops for layer in costs.layers}


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")
