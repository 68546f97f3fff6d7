"""Bits per layer: what binds to which layer of a network."""

from __future__ import annotations

from pathlib import Path

import pytest

from gmpq.errors import PolicyError
from gmpq.policy import (
    CalibrationSpec,
    LayerBits,
    ModelSpec,
    Policy,
    bind,
    differing_calls,
)


def test_bits_are_checked_in_python_too() -> None:
    with pytest.raises(PolicyError, match="got 9"):
        LayerBits(w=9, a=8)
    with pytest.raises(PolicyError, match="16-bit"):
        LayerBits(w=8, a=16)


NAMES = ("conv1", "layer1.0.conv1", "layer1.0.conv2", "fc")


def test_layers_bind_in_the_networks_order() -> None:
    policy = Policy(layers={"fc": LayerBits(8, 4)}, default=LayerBits(3, 2))
    bound = bind(policy, NAMES)
    assert list(NAMES) == list(bound)
    assert bound["fc"] == LayerBits(8, 4)
    assert bound["conv1"] == LayerBits(3, 2)


def test_a_layer_that_the_network_lacks_is_refused() -> None:
    policy = Policy(
        layers={"layer1.0.conv": LayerBits(4, 4), "x": LayerBits(4, 4)}, default=LayerBits(8, 8)
    )
    with pytest.raises(PolicyError, match=r'"layer1\.0\.conv" \(and 1 more\).*did you mean layer1'):
        bind(policy, NAMES)


def test_a_layer_that_the_policy_lacks_is_refused() -> None:
    policy = Policy(layers={name: LayerBits(4, 4) for name in NAMES[:3]})
    with pytest.raises(PolicyError, match='"fc" of the network is not in the policy'):
        bind(policy, NAMES)


def test_an_entry_holds_for_all_calls_of_its_module() -> None:
    policy = Policy(layers={"r": LayerBits(2, 2)}, default=LayerBits(8, 8))
    assert bind(policy, ("c", "r", "r:2", "r:3")) == {
        "c": LayerBits(8, 8),
        "r": LayerBits(2, 2),
        "r:2": LayerBits(2, 2),
        "r:3": LayerBits(2, 2),
    }
    assert "r:2" in bind(Policy(layers=policy.layers), ("r", "r:2"))  # without a default


def test_a_later_call_may_have_bits_of_its_own() -> None:
    policy = Policy(layers={"r": LayerBits(2, 2), "r:2": LayerBits(4, 2)})
    bits = bind(policy, ("r", "r:2", "r:3"))
    assert (bits["r:2"], bits["r:3"]) == (LayerBits(4, 2), LayerBits(2, 2))
    (line,) = differing_calls(bits)
    assert line.startswith('layer "r:2" computes with the weight of "r" at w4a2 instead of w2a2')


def test_a_later_call_alone_leaves_the_first_to_the_default() -> None:
    bits = bind(Policy({"r:2": LayerBits(2, 2)}, LayerBits(8, 8)), ("r", "r:2"))
    assert bits == {"r": LayerBits(8, 8), "r:2": LayerBits(2, 2)}
    assert len(differing_calls(bits)) == 1


def test_locations_seen_from_another_folder(tmp_path: Path) -> None:
    spec = CalibrationSpec(("photographs/*.png", "package:skimage/data", "/x/y.npy"), 3)
    model = ModelSpec(weights="../w.pt", quantized="graph.safetensors")
    policy = Policy({}, model=model, calibration=spec).seen_from(tmp_path / "out", tmp_path)
    assert policy.model == ModelSpec(weights="../../w.pt", quantized="../graph.safetensors")
    assert Policy({}).seen_from(tmp_path / "out", tmp_path) == Policy({})
    moved = policy.calibration
    assert moved is not None
    assert moved.images == ("../photographs/*.png", "package:skimage/data", "/x/y.npy")
    assert moved.limit == 3
