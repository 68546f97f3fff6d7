"""The integer graph as a program of onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnx import ModelProto

from gmpq.backends.base import Tensor
from gmpq.backends.ort.forced import MARK, to_forced_onnx
from gmpq.backends.ort.session import Level, Options, could_saturate, open_session, run
from gmpq.export.onnx import expose, to_onnx
from gmpq.export.weight_storage import WeightStorage
from gmpq.ir import IntGraph

if TYPE_CHECKING:
    import onnxruntime


@dataclass(frozen=True, slots=True, eq=False)
class OrtProgram:
    """A network in onnxruntime: one session as shipped, one that shows every tensor of codes."""

    shipped: onnxruntime.InferenceSession
    exposed: onnxruntime.InferenceSession
    codes: tuple[str, ...]

    @classmethod
    def load(
        cls,
        graph: IntGraph,
        storage: WeightStorage = WeightStorage.INT8,
        level: Level = Level.ALL,
        threads: int = 1,
    ) -> OrtProgram:
        """Return the program of ``graph``, written and opened.

        Raises:
            TargetError: if this onnxruntime cannot load the model.
        """
        return cls.from_model(
            to_onnx(graph, storage), graph, Options(level, threads, could_saturate(graph))
        )

    @classmethod
    def from_model(cls, model: ModelProto, graph: IntGraph, options: Options) -> OrtProgram:
        """Return the program of a ``model`` that was written from ``graph``.

        Raises:
            TargetError: if this onnxruntime cannot load the model.
        """
        shipped = open_session(model, options)
        return cls(shipped, open_session(expose(model, graph), options), codes_of(graph))

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the outputs by name for float32 ``inputs`` by name."""
        return run(self.shipped, inputs)

    def tensors(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the codes of every quantized value by name, in the graph's logical shapes."""
        everything = run(self.exposed, inputs)
        return {name: everything[name] for name in self.codes}


def exposed_codes(
    model: ModelProto, graph: IntGraph, options: Options, inputs: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the codes of every quantized value by name, as a copy of ``model`` shows them.

    Raises:
        TargetError: if this onnxruntime cannot load the copy.
    """
    everything = run(open_session(expose(model, graph), options), inputs)
    return {name: everything[name] for name in codes_of(graph)}


def codes_of(graph: IntGraph) -> tuple[str, ...]:
    """Return the names of all quantized values."""
    return tuple(name for name, value in graph.values.items() if value.q is not None)


def run_forced(
    graph: IntGraph,
    tensors: Mapping[str, Tensor],
    level: Level = Level.DISABLED,
    storage: WeightStorage = WeightStorage.INT8,
) -> dict[str, Tensor]:
    """Return what each node writes when it reads ``tensors``, as codes by value name.

    ``tensors`` holds every value of the graph, as ``gmpq.backends.reference.run`` returns them, so
    that a difference in one node is not carried into the next.
    """
    session = open_session(
        to_forced_onnx(graph, storage), Options(level, exact=could_saturate(graph))
    )
    outputs = run(session, {read.name: tensors[read.name] for read in session.get_inputs()})
    return {name.removesuffix(MARK): codes for name, codes in outputs.items()}
