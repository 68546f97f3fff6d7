"""What the worker makes of a board's words, and how it divides runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from gmpq.backends.rpc.job import Job
from gmpq.backends.rpc.worker import failure, shares
from tests.backends.rpc.programs import job


@pytest.mark.parametrize(
    ("message", "event"),
    [
        ("RPCError: Error caught from RPC call:\nno such file", {"failed": "no such file"}),
        ("RPCSessionTimeoutError: the limit is over", {"failed": "the limit is over"}),
        ("Socket SockChannel::Recv Error:reset", {"lost": "Socket SockChannel::Recv Error:reset"}),
        ("", {"lost": "no message"}),
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


def test_jobs_survive_their_trip(tmp_path: Path) -> None:
    sent = job(tmp_path)
    assert Job.from_json(sent.to_json()) == sent
