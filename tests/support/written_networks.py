"""Small networks that are written as a compile writes them, for the runtime to load."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gmpq.backends import reference
from gmpq.backends.tvm.codegen.build import build
from gmpq.backends.tvm.codegen.form import Form
from gmpq.backends.tvm.target import find
from gmpq.files import manifest
from gmpq.ir import Conv2d, IntGraph, Padding, QParams, Window
from gmpq.runtime import Floats
from tests.support.single_layers import network_of, random_weight


def layer(seed: int) -> IntGraph:
    """Return a convolution that takes long enough for calls to meet."""
    weight = random_weight(np.random.default_rng(seed), (64, 64, 3, 3), 4)
    conv = Conv2d("conv", ("x",), "y", weight, Window((3, 3), padding=Padding(1, 1, 1, 1)))
    return network_of(conv, QParams.full(0.5, 3, 4), (28, 28), 1)


def write(graph: IntGraph, folder: Path, form: Form | None = None) -> None:
    """Write what ``load`` reads."""
    built = build(graph, find("native"), folder, form=form or Form())
    fields = {"tvm": built.program.to_json(), "preprocessing": {"mean": [0.5], "resize": None}}
    manifest.write(folder, fields)


def image_of(graph: IntGraph, seed: int) -> Floats:
    shape = graph.values["image"].shape
    return np.random.default_rng(seed).uniform(-2, 8, shape).astype(np.float32)


def expected_of(graph: IntGraph, image: Floats) -> Floats:
    return reference.run(graph, {"image": image})["real"]
