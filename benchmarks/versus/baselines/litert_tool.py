"""LiteRT, which runs int8 through XNNPACK, on the W8A8 codes of gmpq."""

from __future__ import annotations

from collections import Counter

import click
import numpy as np
from ai_edge_litert.interpreter import Interpreter

from versus.baselines.tflite import to_tflite
from versus.bench import Bench
from versus.entry import Entry
from versus.names import LITERT_INT8


def open_int8(bench: Bench, threads: int) -> list[Entry]:
    """Return the int8 network; there is none of a user's ONNX file."""
    if bench.onnx is not None:
        click.echo("litert-int8 runs the codes of gmpq, not a file of yours: left out", err=True)
        return []
    interpreter = Interpreter(model_content=to_tflite(bench.int8), num_threads=threads)
    interpreter.allocate_tensors()
    (source,) = interpreter.get_input_details()
    image = np.ascontiguousarray(bench.subject.image.transpose(0, 2, 3, 1))
    interpreter.set_tensor(source["index"], image)
    return [Entry(LITERT_INT8, "gmpq's codes", interpreter.invoke, _kernels_used(interpreter))]


def _kernels_used(interpreter: Interpreter) -> str:
    """Return the operators by the type of what they read; DELEGATE is XNNPACK's part."""
    types = {t["index"]: np.dtype(t["dtype"]).name for t in interpreter.get_tensor_details()}
    operators = interpreter._get_ops_details()  # the only place that names them
    counts = Counter(
        "DELEGATE" if op["op_name"] == "DELEGATE" else f"{op['op_name']}({types[op['inputs'][0]]})"
        for op in operators
    )
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())
