"""What users bring: images that a policy names, trainers' checkpoints, models of other tools."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gmpq.files.saved_graph import load
from gmpq.ir import Conv2d
from tests.cli.conftest import Desk
from tests.cli.networks import SHAPE, small
from tests.cli.test_mistakes import refused


def photographs(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    for index in range(count):
        pixels = rng.integers(0, 256, (*SHAPE[2:], 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.webp")


def manifest(desk: Desk) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads((desk.out / "manifest.json").read_text("utf-8"))
    return fields


def test_a_policy_names_its_images_and_the_command_line_goes_before_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    (desk.folder / "photographs").mkdir()
    photographs(desk.folder / "photographs", 5)
    (desk.folder / "photographs" / "notes.txt").write_text("of 2026", "utf-8")
    named = {"images": ["photographs"], "limit": 3}
    desk.write_policy(lambda policy: policy.update(calibration=named))
    monkeypatch.chdir("/")
    place = desk.folder / "policy.json"
    network = ("--import", "tests.cli.networks:small", "--no-bench", "--out", str(desk.out))
    result = desk.gmpq("compile", str(place), *network)
    assert result.code == 0
    assert "photographs: left out what is no photograph: .txt 1" in result.err
    assert manifest(desk)["calibration_images"] == 3
    images = str(desk.folder / "images.npy")
    result = desk.gmpq("compile", str(place), *network, "--calibration", images)
    assert (result.code, manifest(desk)["calibration_images"]) == (0, 4)


def test_no_images_at_all(desk: Desk) -> None:
    refused(desk, desk.compile(calibration=""), "give --calibration FOLDER (or an array), or name")
    refused(desk, desk.compile(calibration=""), 'as "calibration": ["photographs/"]')


def test_a_checkpoint_with_an_average_beside_it(desk: Desk) -> None:
    state = {f"module.{key}": tensor for key, tensor in small().state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state, "ema": state}, desk.folder / "last.pth.tar")
    result = desk.compile(weights="last.pth.tar")
    assert result.code == 0
    assert "last.pth.tar: weights are taken from state_dict, not ema" in result.err


@pytest.mark.parametrize("second", [None, {"w": 4, "a": 4}], ids=["one-entry", "its-own"])
def test_a_layer_that_is_called_twice(desk: Desk, second: dict[str, int] | None) -> None:
    bits = {} if second is None else {"body:2": second}
    desk.write_policy(lambda policy: policy["layers"].update(bits))
    result = desk.compile(**{"import": "tests.cli.networks:Shared"})
    assert result.code == 0
    told = 'layer "body:2" computes with the weight of "body" at w4a4 instead of w3a4'
    assert (told in result.err) == (second is not None)
    nodes = load(desk.out / "graph.safetensors").nodes
    layers = {node.name: node.weight.bits for node in nodes if isinstance(node, Conv2d)}
    assert layers == {"stem": 8, "body": 3, "body:2": 3 if second is None else 4}


@pytest.mark.parametrize(
    "command",
    [
        ("compile",),
        ("explain",),
        ("verify",),
        ("bench",),
        ("search", "sensitivity", "-o", "x.json", "--bits", "4"),
        ("finetune", "--data", "images.npy", "-o", "tuned"),
    ],
    ids=lambda command: command[0],
)
def test_an_onnx_model_is_no_policy(desk: Desk, command: tuple[str, ...]) -> None:
    (desk.folder / "net.onnx").write_bytes(b"\x08\x0a\x12\x07pytorch")
    result = desk.gmpq(*command, "net.onnx")
    refused(desk, result, "net.onnx: this is an ONNX model; gmpq ")


def test_inputs_beyond_all_memory(desk: Desk) -> None:
    shape = [1, 65536, 65536, 65536]
    desk.write_policy(lambda policy: policy["model"]["input"].update(shape=shape))
    refused(desk, desk.compile(), "at most 268435456 can be one input")


def test_a_fifo_among_the_photographs(desk: Desk) -> None:
    os.mkfifo(desk.folder / "x.png")
    refused(desk, desk.compile(calibration="x.png"), "x.png: is a FIFO: give a regular file")
