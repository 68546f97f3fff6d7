"""What the worker makes of a board's words, and how it divides runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from gmpq.backends.rpc.tasks import DeviceQuery, MeasureTask, device_model_of, from_json, to_json
from gmpq.backends.rpc.worker import failure, shares
from tests.support.board_programs import PROGRAM, job


@pytest.mark.parametrize(
    ("message", "event"),
    [
        ("RPCError: Error caught from RPC call:\nno such file", {"failed": "no such file"}),
        ("RPCSessionTimeoutError: the limit is over", {"failed": "the limit is over"}),
        (
            "Socket SockChannel::Recv Error:reset",
            {"disconnected": "Socket SockChannel::Recv Error:reset"},
        ),
        ("", {"disconnected": "no message"}),
    ],
    ids=["told", "limit", "socket", "empty"],
)
def test_failures(message: str, event: dict[str, str]) -> None:
    assert failure(message) == event


@pytest.mark.parametrize(
    ("count", "parts", "expected"),
    [(10, 3, [3, 3, 4]), (2, 3, [1, 1]), (1, 1, [1]), (7, 2, [3, 4])],
)
def test_shares(count: int, parts: int, expected: list[int]) -> None:
    assert shares(count, parts) == expected


def test_tasks_survive_their_trip(tmp_path: Path) -> None:
    trial = MeasureTask("aarch64", "Cortex-A72", "out", PROGRAM, 1, 15, 4096)
    for sent in (job(tmp_path), trial, DeviceQuery("aarch64")):
        assert from_json(to_json(sent)) == sent


@pytest.mark.parametrize(
    ("processor", "model", "device_model"),
    [
        ("Cortex-A72", "Raspberry Pi 4 Model B Rev 1.4", "Cortex-A72, Raspberry Pi 4 Model B"),
        ("Cortex-A72", None, "Cortex-A72"),
        (None, None, "aarch64"),
    ],
    ids=["board", "processor", "unknown"],
)
def test_boards_that_are_alike(processor: str | None, model: str | None, device_model: str) -> None:
    told = {"machine": "aarch64", "processor": processor, "model": model}
    assert device_model_of(told) == device_model
