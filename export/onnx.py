"""The integer graph as an ONNX model in QDQ form, which onnxruntime fuses into integer kernels.

Every tensor of codes keeps its value's name, and every layer's operator the layer's name. Rules
that keep onnxruntime in integer kernels, each measured:

- activations are uint8; fewer bits, ReLU and ReLU6 are a Clip of codes after QuantizeLinear;
- a bias is int32 with a scale of exactly ``float32(s_x * s_w)``: with any other a convolution falls
  back to float, and a Gemm fuses into wrong results;
- a Requantize always clips its codes: without, QuantizeLinear, DequantizeLinear, QuantizeLinear
  in a row are merged into one that computes something else;
- a layer that writes float32 is ConvInteger or MatMulInteger, an Add of the bias, a Cast and a Mul:
  integer and exact at every optimization level, on every processor;
- a Lookup is GatherElements over the table: exact at every optimization level, and faster than any
  float function but the two that onnxruntime has as tables itself.
"""

from __future__ import annotations

import json

from onnx import ModelProto, StringStringEntryProto, TensorProto, helper

from gmpq.export.builder import Draft
from gmpq.export.nodes import emit
from gmpq.export.weight_storage import WeightStorage
from gmpq.ir import Conv2d, IntGraph, Linear


def to_onnx(graph: IntGraph, storage: WeightStorage = WeightStorage.INT8) -> ModelProto:
    """Return ``graph`` as an ONNX model of the lowest opset that holds it.

    Equal graphs give equal bytes under ``serialize``.
    """
    draft = Draft(storage, graph.values)
    for node in graph.nodes:
        emit(draft, node)
    return finish(draft, graph, graph.inputs, graph.outputs)


def finish(
    draft: Draft, graph: IntGraph, inputs: tuple[str, ...], outputs: tuple[str, ...]
) -> ModelProto:
    """Return the drafted nodes as a model with ``inputs`` and ``outputs``."""
    body = helper.make_graph(
        draft.nodes,
        graph.name,
        [draft.info(name) for name in inputs],
        [draft.info(name) for name in outputs],
        list(draft.initializers.values()),
    )
    opset = helper.make_opsetid("", draft.opset)
    model = helper.make_model(body, opset_imports=[opset])
    model.ir_version = helper.find_min_ir_version_for([opset])
    model.producer_name = "gmpq"
    model.metadata_props.append(
        StringStringEntryProto(key="gmpq.layers", value=json.dumps(layer_bits(graph)))
    )
    return model


def expose(model: ModelProto, graph: IntGraph) -> ModelProto:
    """Return a copy of ``model`` whose outputs also are all tensors of codes of ``graph``."""
    exposed = ModelProto()
    exposed.CopyFrom(model)
    for value in graph.values.values():
        if value.q is not None:
            info = helper.make_tensor_value_info(value.name, TensorProto.UINT8, value.shape)
            exposed.graph.output.append(info)
    return exposed


def serialize(model: ModelProto) -> bytes:
    """Return the file's bytes, equal for equal models."""
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def layer_bits(graph: IntGraph) -> dict[str, dict[str, int]]:
    """Return the bits of weight and input of every layer, in execution order."""
    return {
        node.name: {"w": node.weight.bits, "a": q.bits}
        for node in graph.nodes
        if isinstance(node, Conv2d | Linear) and (q := graph.values[node.inputs[0]].q)
    }
