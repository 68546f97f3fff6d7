"""onnxruntime: float, its own static quantization, and the QDQ file that gmpq writes."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import onnx
from onnx import ModelProto
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from gmpq.backends.base import Tensor
from gmpq.backends.ort.optimized import optimize
from gmpq.backends.ort.session import Level, Options, open_session
from gmpq.export.onnx import to_onnx
from gmpq.ir import IntGraph
from versus.baselines import cache
from versus.bench import Bench
from versus.entry import Entry
from versus.names import ORT_FP32, ORT_INT8, ORT_QDQ

FILE = "static.onnx"


class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """The calibration images, one by one, as onnxruntime asks for them."""

    def __init__(self, source: str, images: Iterable[Tensor]) -> None:
        self._feeds = iter([{source: image[None]} for image in images])

    def get_next(self) -> dict[str, Tensor] | None:
        """Return the next input, or None after the last."""
        return next(self._feeds, None)


def open_float(bench: Bench, threads: int) -> list[Entry]:
    """Return the float network."""
    found = bench.float_model
    variant = "float32" if bench.onnx is None else found.path.name
    return [_entry(ORT_FP32, variant, found.model, bench, threads)]


def open_int8(bench: Bench, threads: int) -> list[Entry]:
    """Return the int8 network in both forms; the faster one counts."""
    static = onnx.load(_quantized(bench))
    found = [_entry(ORT_INT8, "quantize_static", static, bench, threads)]
    if bench.onnx is None:
        found.append(_entry(ORT_INT8, "gmpq's QDQ file", to_onnx(bench.int8), bench, threads))
    return found


def open_policy(bench: Bench, graph: IntGraph, variant: str, threads: int) -> Entry:
    """Return the QDQ file of a policy of fewer bits."""
    return _entry(ORT_QDQ, variant, to_onnx(graph), bench, threads)


def _entry(tool: str, variant: str, model: ModelProto, bench: Bench, threads: int) -> Entry:
    session = open_session(model, Options(Level.ALL, threads, exact=False))
    feed = {session.get_inputs()[0].name: bench.subject.image}
    return Entry(tool, variant, lambda: session.run(None, feed), _kernels_used(model))


def _kernels_used(model: ModelProto) -> str:
    """Return the operators that are left after onnxruntime has rewritten the model."""
    counts = Counter(op.op_type for op in optimize(model).graph.node)
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())


def _quantized(bench: Bench) -> Path:
    name = f"{bench.float_model.key}-static-{cache.made_by('onnxruntime')}"
    return cache.fetch(bench.cache, name, lambda fresh: _quantize(bench, fresh)) / FILE


def _quantize(bench: Bench, folder: Path) -> None:
    logging.getLogger().setLevel(logging.ERROR)  # its advice to do what is done here
    found = bench.float_model
    ready = folder / "ready.onnx"
    quant_pre_process(found.path, ready, skip_symbolic_shape=True)
    quantize_static(
        ready,
        folder / FILE,
        Reader(onnx.load(ready).graph.input[0].name, bench.subject.images.numpy()),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    ready.unlink()
