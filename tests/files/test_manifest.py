"""What the manifest says of inputs and outputs."""

from __future__ import annotations

import numpy as np

from gmpq.files.manifest import interface
from tests.support.single_layers import random_linear, writing_float32


def test_outputs_that_were_codes_say_which() -> None:
    graph = random_linear(np.random.default_rng(0), (4, 3), (1, 6, 5))
    fields = interface(graph)
    assert fields["inputs"][0]["codes"]["bits"] == 4
    assert fields["outputs"] == [
        {
            "name": "real",
            "shape": [1, 5],
            "type": "float32",
            "codes": {
                "type": "uint8",
                "scale": np.float32(0.37),
                "zero_point": 128,
                "bits": 8,
                "low": 0,
                "high": 255,
            },
        }
    ]


def test_an_output_of_a_layer_has_no_codes() -> None:
    graph = writing_float32(random_linear(np.random.default_rng(0), (4, 3), (1, 6, 5)))
    fields = interface(graph)
    assert fields["outputs"] == [{"name": "y", "shape": [1, 5], "type": "float32"}]
    assert fields["inputs"][0]["codes"]["bits"] == 4
