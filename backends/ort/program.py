"""The integer graph as a program of onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from onnx import ModelProto

from gmpq.backends.base import Tensor, elapsed_ms
from gmpq.backends.ort.forced import MARK, to_forced_onnx
from gmpq.backends.ort.latency import layer_samples
from gmpq.backends.ort.session import Level, Options, could_saturate, open_session, run
from gmpq.export.onnx import expose, to_onnx
from gmpq.export.weight_storage import WeightStorage
from gmpq.ir import IntGraph

if TYPE_CHECKING:
    import onnxruntime


@final
@dataclass(frozen=True, slots=True, eq=False)
class OrtProgram:
    """A network in onnxruntime; ``model`` was written from ``graph`` and is what ``session`` runs.

    To show values or times inside of the network, copies of the model are opened.
    """

    graph: IntGraph
    model: ModelProto
    options: Options
    session: onnxruntime.InferenceSession

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
    def from_model(
        cls, model: ModelProto, graph: IntGraph, options: Options, content: bytes | None = None
    ) -> OrtProgram:
        """Return the program of a ``model`` that was written from ``graph``.

        ``content`` is the file that the model was read from, if any: that is run.

        Raises:
            TargetError: if this onnxruntime cannot load the model.
        """
        shipped = model if content is None else content
        return cls(graph, model, options, open_session(shipped, options))

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs, in order."""
        return tuple(output.name for output in self.session.get_outputs())

    @property
    def emulated(self) -> bool:
        """False."""
        return False

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the outputs by name for ``inputs`` by name, float32, in the graph's shapes.

        Raises:
            TargetError: if onnxruntime refuses the inputs.
        """
        return run(self.session, inputs)

    def trace(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the codes of every quantized value by name, as a copy of the model shows them.

        Codes are uint8, ``inputs`` float32 by name, all in the graph's shapes.

        Raises:
            TargetError: if this onnxruntime cannot load the copy, or refuses the inputs.
        """
        everything = run(open_session(expose(self.model, self.graph), self.options), inputs)
        return {name: everything[name] for name in codes_of(self.graph)}

    def time_runs(self, inputs: Mapping[str, Tensor], count: int) -> list[float]:
        """Return the milliseconds of ``count`` runs.

        ``inputs`` are float32 by name, in the graph's shapes.
        """
        feed = dict(inputs)
        return [elapsed_ms(lambda: self.session.run(None, feed)) for _ in range(count)]

    def time_steps(
        self, inputs: Mapping[str, Tensor], count: int, flush_bytes: int = 0
    ) -> dict[str, list[float]]:
        """Return the milliseconds of each node in ``count`` runs, by onnxruntime's profiler.

        ``inputs`` are float32 by name, in the graph's shapes. ``flush_bytes`` are read before each
        run, since the profiler times whole runs.

        Raises:
            TargetError: if this onnxruntime cannot load the model, or refuses the inputs.
        """
        return layer_samples(
            self.model, self.graph, inputs, self.options.threads, count, flush_bytes
        )

    def close(self) -> None:
        """Do nothing: the session ends with this object."""


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
    that a difference in one node is not carried into the next. Codes are uint8, other values
    float32, all in the graph's shapes.

    Raises:
        TargetError: if this onnxruntime cannot load the model, or refuses the values.
    """
    session = open_session(
        to_forced_onnx(graph, storage), Options(level, exact=could_saturate(graph))
    )
    outputs = run(session, {read.name: tensors[read.name] for read in session.get_inputs()})
    return {name.removesuffix(MARK): codes for name, codes in outputs.items()}
