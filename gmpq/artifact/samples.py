"""A few inputs that stay with the output, so that its programs can be compared again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from gmpq.backends.base import Tensor
from gmpq.errors import OutputError
from gmpq.files.untrusted import read_bytes
from gmpq.inputs.images import Images
from gmpq.ir import IntGraph, Shape

Inputs = dict[str, Tensor]  # float32 by name, for one run


def take(images: Images, source: str, shape: Shape, count: int) -> list[Inputs]:
    """Return ``count`` inputs ``source`` of ``shape`` from the first images."""
    first = next(images.batches(min(count * shape[0], len(images.items))))
    runs = np.resize(first, (count, *shape))  # repeats the images if there are too few
    return [{source: run} for run in runs]


def write(samples: Sequence[Inputs], path: Path) -> None:
    """Write ``samples`` to ``path``: by the name of the input, float32 [samples, ...].

    Raises:
        OSError: the file cannot be written.
    """
    stacked = {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}
    path.write_bytes(save(stacked))


def read(path: Path, graph: IntGraph) -> list[Inputs]:
    """Return the samples for ``graph`` in the file at ``path``, at least one.

    A sample holds the inputs by name, float32, in the graph's shapes.

    Raises:
        OutputError: the file is missing, damaged, or holds something else.
    """
    try:
        stacked = load(read_bytes(path, OutputError))
    except (SafetensorError, TypeError, AttributeError, ValueError) as error:
        raise OutputError(f"{path}: not saved samples: {error}: compile again") from error
    count = min((len(array) for array in stacked.values() if array.ndim), default=0)
    runs = [{name: array[index] for name, array in stacked.items()} for index in range(count)]
    wanted = {name: (np.dtype(np.float32), graph.values[name].shape) for name in graph.inputs}
    if not runs or {name: (x.dtype, x.shape) for name, x in runs[0].items()} != wanted:
        raise OutputError(f"{path}: its samples are not for {graph.name}: compile again")
    return runs
