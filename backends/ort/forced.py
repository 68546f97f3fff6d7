"""A model in which every node reads given codes, so that no difference travels on."""

from __future__ import annotations

from dataclasses import replace

from onnx import ModelProto

from gmpq.export.builder import Draft
from gmpq.export.nodes import emit
from gmpq.export.onnx import finish
from gmpq.export.weight_storage import WeightStorage
from gmpq.ir import IntGraph

MARK = ":forced"


def to_forced_onnx(graph: IntGraph, storage: WeightStorage = WeightStorage.INT8) -> ModelProto:
    """Return all nodes of ``graph`` that write codes, side by side in one model.

    Its inputs are every value that one of them reads; the output of the node that writes ``v`` is
    ``v:forced``.
    """
    written = [node for node in graph.nodes if graph.values[node.output].q is not None]
    outputs = {node.output: node.output + MARK for node in written}
    forced = {mark: replace(graph.values[name], name=mark) for name, mark in outputs.items()}
    draft = Draft(storage, {**graph.values, **forced})
    for node in written:
        emit(draft, replace(node, output=outputs[node.output]))
    inputs = tuple(dict.fromkeys(name for node in written for name in node.inputs))
    return finish(draft, graph, inputs, tuple(outputs.values()))
