"""Sessions of onnxruntime: options in one place, its errors as ours, its telemetry off.

onnxruntime's wheels since 1.31 write an identifier and a database into the user's cache as soon as
they are imported; only a variable of the environment keeps them from it. So nothing of gmpq imports
onnxruntime but ``load_onnxruntime``, when the first session is opened.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_never

import numpy as np
from onnx import ModelProto

from gmpq.backends.base import Tensor
from gmpq.backends.host import host
from gmpq.errors import TargetError
from gmpq.export.onnx import serialize
from gmpq.ir import Conv2d, IntGraph, Linear

if TYPE_CHECKING:
    import onnxruntime

ERRORS = (
    *("EPFail", "Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile"),
    *("NotImplemented", "RuntimeException"),
)
PRECISION = "session.x64quantprecision"
INT16_MAX = 32767
SILENT = 4  # fatal errors only: what fails is raised, in one line


class Level(Enum):
    """The optimizations that onnxruntime applies to the graph.

    ALL is its default and runs integer kernels. DISABLED and BASIC compute convolutions in float32.
    """

    DISABLED = "disabled"
    BASIC = "basic"
    EXTENDED = "extended"
    ALL = "all"


LEVELS = tuple(Level)


@dataclass(frozen=True, slots=True)
class Options:
    """How to open a session; ``optimized`` is where to write the rewritten graph.

    ``exact`` asks for slower kernels, which never saturate; ``could_saturate`` says whether a
    graph needs them, and where nobody asked it the machine decides.
    """

    level: Level = Level.ALL
    threads: int = 1
    exact: bool = field(default_factory=lambda: host().saturates())
    optimized: Path | None = None
    profile: Path | None = None  # prefix of the file that the profiler writes


def load_onnxruntime() -> Any:
    """Return the module ``onnxruntime``, whose telemetry is off."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    module = import_module("onnxruntime")
    module.disable_telemetry_events()  # where the caller had imported it before
    return module


def could_saturate(graph: IntGraph) -> bool:
    """Return whether onnxruntime's default kernels could compute ``graph`` wrongly on this machine.

    On x86 processors without VNNI they add pairs of u8 x s8 products in int16 with saturation; a
    layer whose bits add up to at most 15 never gets there, and one whose results are real numbers
    has u8 x u8 products.
    """
    return host().saturates() and any(
        2 * _largest_code(graph, node) * int(np.abs(node.weight.codes.astype(int)).max())
        > INT16_MAX
        for node in graph.nodes
        if isinstance(node, Conv2d | Linear) and graph.values[node.output].q is not None
    )


def precision_setting(*, exact: bool) -> str:
    """Return the setting of a session as a table shows it: ``session.x64quantprecision=0``."""
    return f"{PRECISION}={int(exact)}"


def open_session(
    model: ModelProto | bytes, options: Options | None = None
) -> onnxruntime.InferenceSession:
    """Return a session of ``model``, or of a file's content, on the CPU.

    Raises:
        TargetError: if this onnxruntime cannot load the model.
    """
    runtime, chosen = load_onnxruntime(), options or Options()
    with converted_errors("load the model", "install a newer one, or store the weights as int8"):
        content = model if isinstance(model, bytes) else serialize(model)
        return runtime.InferenceSession(
            content, _session_options(runtime, chosen), ["CPUExecutionProvider"]
        )


def run(session: onnxruntime.InferenceSession, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the outputs by name for ``inputs`` by name, float32 [N, C, H, W].

    Raises:
        TargetError: if onnxruntime refuses the inputs.
    """
    names = [output.name for output in session.get_outputs()]
    with converted_errors("run the model", "check the names, types and shapes of its inputs"):
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))


@contextmanager
def converted_errors(task: str, cure: str) -> Iterator[None]:
    """Raise onnxruntime's errors as a TargetError that says what it could not do."""
    errors = _errors()
    try:
        yield
    except errors as error:
        reason = " ".join(str(error).split()).rstrip(".")
        version = load_onnxruntime().__version__
        raise TargetError(f"onnxruntime {version} cannot {task}: {reason}: {cure}") from error


def _errors() -> tuple[type[Exception], ...]:
    """Return what onnxruntime raises; a ValueError is its Python layer's, for a missing input."""
    load_onnxruntime()
    native = import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    return (*(getattr(native, name) for name in ERRORS), ValueError)


def _largest_code(graph: IntGraph, layer: Conv2d | Linear) -> int:
    source = graph.values[layer.inputs[0]].q
    assert source is not None, f"{layer.name}: layers read codes"
    return source.maximum


def _session_options(runtime: Any, options: Options) -> onnxruntime.SessionOptions:
    native_options = runtime.SessionOptions()
    native_options.graph_optimization_level = _native(runtime, options.level)
    native_options.intra_op_num_threads = options.threads
    native_options.inter_op_num_threads = 1
    native_options.log_severity_level = SILENT
    # Between two runs its threads must not spin: they would slow whatever is measured next.
    native_options.add_session_config_entry("session.force_spinning_stop", "1")
    if options.exact:
        native_options.add_session_config_entry(PRECISION, "1")
    if options.optimized is not None:
        native_options.optimized_model_filepath = str(options.optimized)
    if options.profile is not None:
        native_options.enable_profiling = True
        native_options.profile_file_prefix = str(options.profile)
    return native_options


def _native(runtime: Any, level: Level) -> onnxruntime.GraphOptimizationLevel:
    levels = runtime.GraphOptimizationLevel
    match level:
        case Level.DISABLED:
            return levels.ORT_DISABLE_ALL
        case Level.BASIC:
            return levels.ORT_ENABLE_BASIC
        case Level.EXTENDED:
            return levels.ORT_ENABLE_EXTENDED
        case Level.ALL:
            return levels.ORT_ENABLE_ALL
        case _:
            assert_never(level)
