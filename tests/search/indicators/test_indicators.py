from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from gmpq.errors import SearchError
from gmpq.policy import LayerBits
from gmpq.search.ilp.space import Layer, Space
from gmpq.search.indicators import indicators
from gmpq.search.indicators.indicators import Indicators, forbid_falling

WIDE = LayerBits(8, 8)


def sample() -> Indicators:
    layers = (
        Layer("first", 100, 10, WIDE),
        Layer("second", 300, 40),
        Layer("third", 500, 80),
        Layer("aside", 7, 3, WIDE, auxiliary=True),
        Layer("last", 20, 20, WIDE),
    )
    return Indicators(
        "sensitivity",
        "net",
        Space(layers, (2, 4), (2, 3, 4)),
        np.array([[0.5, 0.1], [0.7, 0.2]]),
        np.array([[0.4, 0.3, 0.2], [0.9, 0.1, 0.3]]),
        "images/",
        3,
        {"images": 8},
    )


def test_a_file_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "losses.json"
    indicators.write(sample(), path)
    found = indicators.read(path)
    assert found.space == sample().space
    assert (found.method, found.network, found.dataset) == ("sensitivity", "net", "images/")
    assert (found.seed, found.details) == (3, {"images": 8})
    np.testing.assert_array_equal(found.weight, sample().weight)
    np.testing.assert_array_equal(found.read, sample().read)
    assert [p.name for p in tmp_path.iterdir()] == ["losses.json"]


def test_losses_of_weights_and_inputs_add_up() -> None:
    losses = sample().losses(2.0).values
    assert losses.shape == (2, 2, 3)
    assert losses[1, 0, 2] == pytest.approx(0.3 + 2 * 0.7)


def test_some_of_the_bits() -> None:
    found = sample().only((4,), (2, 4))
    assert (found.space.weight_bits, found.space.input_bits) == ((4,), (2, 4))
    np.testing.assert_array_equal(found.read, [[0.4, 0.2], [0.9, 0.3]])
    with pytest.raises(SearchError, match="weight bits 3: the indicators have 2, 4"):
        sample().only((3,), None)


def test_losses_that_fall_with_the_bits_are_forbidden() -> None:
    found = forbid_falling(np.array([[0.9, 0.1, 0.3], [3.0, 2.0, 1.0]]))
    np.testing.assert_array_equal(found, [[0.9, math.inf, 0.3], [3.0, 2.0, 1.0]])


def test_files_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "losses.json"
    indicators.write(sample(), path)
    assert indicators.reuse(path, "net", "sensitivity", None, None).network == "net"
    with pytest.raises(SearchError, match="indicators of network net, not resnet18"):
        indicators.reuse(path, "resnet18", "sensitivity", None, None)
    with pytest.raises(SearchError, match="of method sensitivity, not limpq"):
        indicators.reuse(path, "net", "limpq", None, None)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        pytest.param(("seed",), None, 'key "seed" is missing', id="missing"),
        pytest.param(("layers", "second", "w"), [1.0], "1 numbers for 2 numbers of", id="count"),
        pytest.param(("layers", "second", "macs"), -1, "must be at least 1", id="macs"),
        pytest.param(("layers", "first", "kept"), [8], r"must be \[w, a\]", id="kept"),
        pytest.param(("weight_bits",), [4, 2], "give rising numbers", id="order"),
        pytest.param(("weight_bits",), 4, "must be a list", id="no-list"),
        pytest.param(("layers", "second", "b"), 1, 'unknown key "b"', id="unknown"),
    ],
)
def test_a_wrong_file_is_refused(
    tmp_path: Path, place: tuple[str, ...], value: object, message: str
) -> None:
    path = tmp_path / "losses.json"
    indicators.write(sample(), path)
    content = json.loads(path.read_text("utf-8"))
    *parents, key = place
    inner = content
    for parent in parents:
        inner = inner[parent]
    inner[key] = value
    if value is None:
        del inner[key]
    path.write_text(json.dumps(content), "utf-8")
    with pytest.raises(SearchError, match=message) as raised:
        indicators.read(path)
    assert str(raised.value).startswith(str(path))
