from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

from ai_edge_litert.interpreter import Interpreter  # after the check that it is there

from gmpq.backends import reference
from versus.baselines.tflite import channels_last, to_tflite
from versus.bench import Bench
from versus.subject import Subject


def test_channels_move_last() -> None:
    assert channels_last((1, 3, 8, 9)) == (1, 8, 9, 3)
    assert channels_last((1, 3)) == (1, 3)


@pytest.mark.parametrize("network", ["resnet18", "mobilenet_v2"])
def test_litert_computes_the_same_network(network: str, tmp_path: Path) -> None:
    bench = Bench(Subject.of(network, 0), tmp_path, tmp_path)
    graph, image = bench.int8, bench.subject.image
    interpreter = Interpreter(model_content=to_tflite(graph))
    interpreter.allocate_tensors()
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.set_tensor(source["index"], np.ascontiguousarray(image.transpose(0, 2, 3, 1)))
    interpreter.invoke()
    found = interpreter.get_tensor(target["index"])
    expected = reference.run(graph, {graph.inputs[0]: image})[graph.outputs[0]]
    # Its additions round otherwise; a wrong stride, padding, scale or clip costs far more.
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.995
