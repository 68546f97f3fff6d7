"""A LiteRT model under construction: tensors, their buffers, and operators in execution order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

VERSION = 3  # of the file format
IDENTIFIER = b"TFL3"


@dataclass(frozen=True, slots=True, eq=False)
class Encoding:
    """What the codes of a tensor mean; one scale, or one per slice along ``axis``."""

    scale: NDArray[np.float32]
    zero_point: int = 0
    axis: int = 0


@dataclass(frozen=True, slots=True)
class Kind:
    """An operator of LiteRT, and the version of it that reads int8."""

    code: int
    version: int
    options: int  # the kind of its options


@dataclass(eq=False)  # grows while a graph is written
class Draft:
    """Parts of the model."""

    tensors: list[Any] = field(default_factory=list)
    operators: list[Any] = field(default_factory=list)
    buffers: list[Any] = field(default_factory=lambda: [schema.BufferT()])  # the first is empty
    kinds: list[Kind] = field(default_factory=list)

    def tensor(
        self, name: str, shape: tuple[int, ...], dtype: int, encoding: Encoding | None = None
    ) -> int:
        """Add a tensor without content and return its number."""
        made = schema.TensorT()
        made.name, made.shape, made.type, made.buffer = name, list(shape), dtype, 0
        made.hasRank = True
        if encoding is not None:
            q = schema.QuantizationParametersT()
            q.scale = encoding.scale.astype(np.float32).reshape(-1)
            q.zeroPoint = np.full(q.scale.size, encoding.zero_point, np.int64)
            q.quantizedDimension = encoding.axis
            made.quantization = q
        self.tensors.append(made)
        return len(self.tensors) - 1

    def constant(
        self, name: str, content: NDArray[Any], dtype: int, encoding: Encoding | None = None
    ) -> int:
        """Add a tensor with ``content`` and return its number."""
        number = self.tensor(name, content.shape, dtype, encoding)
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(content).tobytes(), np.uint8)
        self.buffers.append(buffer)
        self.tensors[number].buffer = len(self.buffers) - 1
        return number

    def operator(self, kind: Kind, inputs: list[int], output: int, options: object) -> None:
        """Add an operator."""
        if kind not in self.kinds:
            self.kinds.append(kind)
        made = schema.OperatorT()
        made.opcodeIndex = self.kinds.index(kind)
        made.inputs, made.outputs = inputs, [output]
        made.builtinOptionsType, made.builtinOptions = kind.options, options
        self.operators.append(made)

    def finish(self, name: str, inputs: list[int], outputs: list[int]) -> bytes:
        """Return the file."""
        graph = schema.SubGraphT()
        graph.name, graph.tensors, graph.operators = name, self.tensors, self.operators
        graph.inputs, graph.outputs = inputs, outputs
        model = schema.ModelT()
        model.version, model.description = VERSION, name
        model.operatorCodes = [_code(kind) for kind in self.kinds]
        model.subgraphs, model.buffers = [graph], self.buffers
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(model.Pack(builder), IDENTIFIER)
        return bytes(builder.Output())


def _code(kind: Kind) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = kind.code
    code.version = kind.version
    return code
