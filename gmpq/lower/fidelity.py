"""Does the float graph compute what the user's module computes?"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from gmpq.backends.torch_float import run_float
from gmpq.ir import FloatGraph
from gmpq.lower.outputs import tensors


def lowering_error(module: nn.Module, graph: FloatGraph, batch: NDArray[np.float32]) -> float:
    """Return the largest difference between the outputs of ``module`` and of ``graph``.

    It is relative to the largest output of the module, so that rounding alone is about 1e-6.
    ``batch`` is [N, C, H, W].
    """
    (source,), images = graph.inputs, torch.from_numpy(batch)
    training = module.training
    with torch.inference_mode():
        written = module.eval()(images.clone())  # which it may change
        found = {name: x for name, x in run_float(graph, {source: images}) if name in graph.outputs}
    module.train(training)
    pairs = zip(tensors(written), (found[name] for name in graph.outputs), strict=True)
    gaps = [float((a - b).abs().max() / a.abs().max().clamp_min(1e-30)) for a, b in pairs]
    return max(gaps)
