"""Sessions of onnxruntime: options in one place, its errors as ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import assert_never

import onnxruntime
from onnx import ModelProto
from onnxruntime.capi import onnxruntime_pybind11_state as native

from gmpq.backends.base import Tensor
from gmpq.errors import TargetError
from gmpq.export.onnx import serialize

ERRORS = (
    native.EPFail,
    native.Fail,
    native.InvalidArgument,
    native.InvalidGraph,
    native.InvalidProtobuf,
    native.NoSuchFile,
    native.NotImplemented,
    native.RuntimeException,
    ValueError,  # of its Python layer: a missing input
)
SILENT = 4  # fatal errors only: what fails is raised, in one line


class Level(Enum):
    """How far onnxruntime rewrites the graph; ALL is its default and runs integer kernels.

    DISABLED and BASIC compute convolutions in float32.
    """

    DISABLED = "disabled"
    BASIC = "basic"
    EXTENDED = "extended"
    ALL = "all"


LEVELS = tuple(Level)


@dataclass(frozen=True, slots=True)
class Options:
    """How to open a session; ``optimized`` is where to write the rewritten graph.

    On x86 processors without VNNI onnxruntime's default kernels add pairs of products of eight bits
    in int16 with saturation; ``exact`` asks for its slower ones, which do not.
    """

    level: Level = Level.ALL
    threads: int = 1
    exact: bool = True
    optimized: Path | None = None
    profile: Path | None = None  # prefix of the file that the profiler writes


def open_session(
    model: ModelProto | bytes, options: Options | None = None
) -> onnxruntime.InferenceSession:
    """Return a session of ``model``, or of a file's content, on the CPU.

    Raises:
        TargetError: if this onnxruntime cannot load the model.
    """
    with told("load the model", "install a newer one, or store the weights as int8"):
        content = model if isinstance(model, bytes) else serialize(model)
        return onnxruntime.InferenceSession(
            content, _session_options(options or Options()), ["CPUExecutionProvider"]
        )


def run(session: onnxruntime.InferenceSession, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the outputs by name.

    Raises:
        TargetError: if onnxruntime refuses the inputs.
    """
    names = [output.name for output in session.get_outputs()]
    with told("run the model", "check the names, types and shapes of its inputs"):
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))


@contextmanager
def told(task: str, cure: str) -> Iterator[None]:
    """Raise onnxruntime's errors as a TargetError that says what it could not do."""
    try:
        yield
    except ERRORS as error:
        reason = " ".join(str(error).split()).rstrip(".")
        version = onnxruntime.__version__
        raise TargetError(f"onnxruntime {version} cannot {task}: {reason}: {cure}") from error


def _session_options(options: Options) -> onnxruntime.SessionOptions:
    native_options = onnxruntime.SessionOptions()
    native_options.graph_optimization_level = _native(options.level)
    native_options.intra_op_num_threads = options.threads
    native_options.inter_op_num_threads = 1
    native_options.log_severity_level = SILENT
    # Between two runs its threads must not spin: they would slow whatever is measured next.
    native_options.add_session_config_entry("session.force_spinning_stop", "1")
    if options.exact:
        native_options.add_session_config_entry("session.x64quantprecision", "1")
    if options.optimized is not None:
        native_options.optimized_model_filepath = str(options.optimized)
    if options.profile is not None:
        native_options.enable_profiling = True
        native_options.profile_file_prefix = str(options.profile)
    return native_options


def _native(level: Level) -> onnxruntime.GraphOptimizationLevel:
    levels = onnxruntime.GraphOptimizationLevel
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
