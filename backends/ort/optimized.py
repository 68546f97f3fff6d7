"""Which node of our graph each operator of onnxruntime's rewritten graph belongs to."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping

import onnx
from onnx import ModelProto, NodeProto

from gmpq.backends.ort.session import Level, Options, open_session
from gmpq.files import temporary
from gmpq.ir import IntGraph

RENAMED = re.compile(r"_token_\d+$")  # what onnxruntime appends when it replaces an operator


def optimize(model: ModelProto, level: Level = Level.ALL) -> ModelProto:
    """Return ``model`` as onnxruntime rewrites it.

    Raises:
        TargetError: if this onnxruntime cannot load the model.
    """
    with temporary.folder() as place:
        path = place / "optimized.onnx"
        open_session(model, Options(level, optimized=path))
        return onnx.load(path)


def owners(optimized: ModelProto, graph: IntGraph) -> dict[str, str]:
    """Return the node of ``graph`` that each operator belongs to, by the operator's name.

    Operators that onnxruntime adds itself, such as transpositions to another memory layout, belong
    to the node whose result they read, else to the node that reads theirs.
    """
    names = {node.name for node in graph.nodes}
    operators = list(optimized.graph.node)
    owned = {op.name: owner for op in operators if (owner := _named_owner(op.name, names))}
    writers = {output: op.name for op in operators for output in op.output}
    for op in operators:
        if op.name not in owned:
            _adopt(op, writers, owned)
    readers = {source: op.name for op in operators for source in op.input}
    for op in reversed(operators):
        for output in op.output:
            if op.name not in owned and readers.get(output) in owned:
                owned[op.name] = owned[readers[output]]
    return owned


def original_name(name: str) -> str:
    """Return the name that an operator had before onnxruntime replaced it, and numbered it."""
    return RENAMED.sub("", name)


def _named_owner(name: str, nodes: Container[str]) -> str | None:
    """Return the node that the writer named an operator after.

    ``conv1``, ``conv1:Clip:7`` and ``conv1_token_12`` belong to ``conv1``; ``conv1:2`` is a node.
    """
    owner, colon = original_name(name), ":"
    while owner not in nodes and colon:
        owner, colon, _ = owner.rpartition(":")
    return owner if owner in nodes else None


def _adopt(op: NodeProto, writers: Mapping[str, str], owned: dict[str, str]) -> None:
    for source in op.input:
        writer = writers.get(source)
        if writer in owned:
            owned[op.name] = owned[writer]
            return
