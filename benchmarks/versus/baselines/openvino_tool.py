"""OpenVINO: float, and int8 by NNCF's post-training quantization."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import nncf
import openvino
from openvino import CompiledModel, Core, Model

from versus.baselines import cache
from versus.bench import Bench
from versus.entry import Entry
from versus.names import OPENVINO_FP32, OPENVINO_INT8

FILE = "int8.xml"
LAYERS = ("Convolution", "FullyConnected")


def open_float(bench: Bench, threads: int) -> list[Entry]:
    """Return the float network; bfloat16, which OpenVINO prefers where it can, is turned off."""
    model = Core().read_model(bench.float_model.path)
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    return [_entry(OPENVINO_FP32, "float32", model, options, bench, threads)]


def open_int8(bench: Bench, threads: int) -> list[Entry]:
    """Return the int8 network."""
    model = Core().read_model(_quantized(bench))
    return [_entry(OPENVINO_INT8, "NNCF", model, {}, bench, threads)]


def _entry(
    tool: str, variant: str, model: Model, extra: dict[str, str], bench: Bench, threads: int
) -> Entry:
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": str(threads),
        **extra,
    }
    compiled = Core().compile_model(model, "CPU", options)
    request = compiled.create_infer_request()
    request.set_input_tensor(openvino.Tensor(bench.subject.image))
    return Entry(tool, variant, request.infer, _kernels_used(compiled))


def _kernels_used(compiled: CompiledModel) -> str:
    """Return the kernels of the layers with weights, as OpenVINO's runtime model names them."""
    counts: Counter[str] = Counter()
    for operator in compiled.get_runtime_model().get_ops():
        info = operator.get_rt_info()
        if info["layerType"].astype(str) in LAYERS:
            counts[info["primitiveType"].astype(str)] += 1
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())


def _quantized(bench: Bench) -> Path:
    made = f"{cache.made_by('nncf')}-{cache.made_by('openvino')}"
    name = f"{bench.float_model.key}-{made}"
    return cache.fetch(bench.cache, name, lambda fresh: _quantize(bench, fresh)) / FILE


def _quantize(bench: Bench, folder: Path) -> None:
    nncf.set_log_level(logging.ERROR)
    images = [image[None] for image in bench.subject.images.numpy()]
    model = Core().read_model(bench.float_model.path)
    quantized = nncf.quantize(model, nncf.Dataset(images), subset_size=len(images))
    openvino.save_model(quantized, folder / FILE, compress_to_fp16=False)
