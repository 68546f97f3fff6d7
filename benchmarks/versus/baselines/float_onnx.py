"""The float network as an ONNX file: what the baselines start from."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path

import click
import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import ModelProto

from versus.baselines import cache
from versus.subject import Subject

FILE = "float.onnx"
OPSET = 20


@dataclass(frozen=True, slots=True, eq=False)
class FloatModel:
    """A float32 network as ONNX; ``key`` names its content."""

    model: ModelProto
    path: Path
    key: str

    @property
    def source(self) -> str:
        """The name of its input."""
        return str(self.model.graph.input[0].name)


def exported(subject: Subject, folder: Path) -> FloatModel:
    """Return the network as torch exports it, kept in ``folder``."""
    key = f"{subject.name}-{cache.digest_of_module(subject.module)}-{cache.made_by('torch')}"
    path = cache.fetch(folder, key, lambda fresh: _export(subject, fresh / FILE)) / FILE
    return FloatModel(onnx.load(path), path, key)


def given(path: Path, subject: Subject) -> FloatModel:
    """Return the user's own model, which stands in for ``subject``.

    Raises:
        click.UsageError: it cannot be read, or does not read one image of the network's shape.
    """
    try:
        model = onnx.load(path)
    except (OSError, DecodeError) as error:
        raise click.UsageError(f"--onnx {path}: cannot be read: {error}") from error
    stored = {constant.name for constant in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in stored]
    shapes = [tuple(d.dim_value for d in value.type.tensor_type.shape.dim) for value in inputs]
    if shapes != [subject.shape]:
        raise click.UsageError(
            f"--onnx {path}: has inputs of shapes {shapes}, {subject.name} reads one of "
            f"{subject.shape}: export it with that fixed shape"
        )
    return FloatModel(model, path, f"{path.stem}-{cache.digest_of_file(path)}")


def _export(subject: Subject, path: Path) -> None:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision, not needed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about its own code
        program = torch.onnx.export(
            subject.module,
            (torch.from_numpy(subject.image),),
            dynamo=True,
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None, "with dynamo, and without a file, a program is returned"
    program.save(path)
