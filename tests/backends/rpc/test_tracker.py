"""Trackers that are not there, are none, or have nothing: each is told in one line."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from gmpq.backends.rpc.address import Address
from gmpq.backends.rpc.tracker import Device, clients_of, devices, request
from gmpq.errors import BoardError
from tests.support.trackers import Tracker

HERE = Device("rpi4", "10.0.0.5:9090", "10.0.0.9:5000")


def test_an_empty_tracker(tracker: Tracker) -> None:
    assert asyncio.run(devices(tracker.address)) == ()


def test_no_tracker() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(
            BoardError, match=rf"tracker 127.0.0.1:{port}: cannot be reached .* --p"
        ):
            asyncio.run(devices(Address("127.0.0.1", port)))


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n"], ids=["closes", "http"])
def test_something_else_listens(answer: bytes) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def reply() -> None:
            client, _ = listener.accept()
            with client, suppress(OSError):
                client.recv(4)
                client.sendall(answer)

        thread = threading.Thread(target=reply)
        thread.start()
        with pytest.raises(BoardError, match="something else listens there"):
            asyncio.run(devices(Address("127.0.0.1", listener.getsockname()[1])))
        thread.join()


@pytest.mark.parametrize(
    ("found", "key", "message"),
    [
        ((), "rpi4", "the tracker has no board of that key: it has none at all"),
        ((HERE,), "rpi5", "no board of that key (did you mean rpi4?): it has rpi4"),
        ((HERE,), "rpi4", "10.0.0.5:9090 serves 10.0.0.9:5000"),
        ((Device("rpi4", "a:1", None),), "rpi4", "a:1 names no client"),
    ],
    ids=["none", "other-key", "held", "unnamed"],
)
def test_clients_as_text(found: tuple[Device, ...], key: str, message: str) -> None:
    assert clients_of(found, key).endswith(message)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        ":9190",
        "host:",
        "host:0",
        "host:70000",
        "host:x",
        "host:\u0669",
        "h:" + "1" * 5000,
    ],
)
def test_addresses_without_host_or_port(text: str) -> None:
    with pytest.raises(BoardError, match="give HOST:PORT"):
        Address.parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("::1:9190", r"write IPv6 in brackets, as \[::1\]:9190", id="bare-ipv6"),
        pytest.param("[::1:9190", "write IPv6 in brackets", id="half-a-bracket"),
        pytest.param("[::x]:9190", "is no host", id="no-ipv6"),
        pytest.param("[host]:9190", "is no host", id="brackets"),
        pytest.param("a..b:9190", "is no host", id="empty-label"),
        pytest.param("a" * 64 + ":9190", "is no host", id="long-label"),
        pytest.param("a." * 200 + ":9190", "is no host", id="long-name"),
        pytest.param("a b:9190", "is no host", id="space"),
    ],
)
def test_hosts_that_are_none(text: str, message: str) -> None:
    with pytest.raises(BoardError, match=message) as caught:
        Address.parse(text)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    "text",
    ["192.168.0.2:9190", "tracker.local:1", "bücher.example:9", "my_board-2:65535", "[::1]:9190"],
)
def test_addresses(text: str) -> None:
    assert str(Address.parse(text)) == text


# --- answers -------------------------------------------------------------------------------------

BOARD = {"key": "server:rpi4", "addr": ["10.0.0.5", 9090]}
NONSENSE = [
    *(b"", b"{", b"\xff\xfe", b"[" * 100_000, b"9" * 6000, b"NaN", b'"\\ud800"'),
    *(json.dumps(each).encode() for each in (None, 3, "x", [], {}, [0], [0, 1, 2], [0, None])),
    *(json.dumps([0, {"server_info": each}]).encode() for each in (None, 3, {}, [3], [None], [{}])),
    *(
        json.dumps([0, {"server_info": [BOARD | change]}]).encode()
        for change in (
            *({"key": 5}, {"key": None}, {"addr": 5}, {"addr": []}, {"addr": ["h"]}),
            *({"addr": [None, 1]}, {"addr": ["h", "1"]}, {"addr": ["h", True]}, {"addr": ["h", 0]}),
            *({"addr": ["h", 1e9]}, {"addr": ["h" * 300, 1]}, {"client": 5}, {"client": [1]}),
        )
    ),
]
OFFERS = [
    json.dumps([0, each]).encode()
    for each in (
        *(
            None,
            5,
            "abc",
            [],
            ["h", 1],
            ["h", "1", "k"],
            [1, 1, "k"],
            ["h", 1, 5],
            ["h", 10**30, "k"],
        ),
        *(["a..b", 1, "k"], ["h", -1, "k"], {"host": 1}, ["h", 1, "k", 1]),
    )
]


@contextmanager
def answering(answer: bytes, host: str = "127.0.0.1") -> Iterator[Address]:
    """Run a tracker that greets one client and gives it ``answer``."""

    def reply() -> None:
        client, _ = listener.accept()
        with client, suppress(OSError):
            client.sendall(client.recv(4, socket.MSG_WAITALL))
            client.recv(1 << 16)
            client.sendall(struct.pack("<i", len(answer)) + answer)

    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        listener.bind((host, 0))
        listener.listen()
        thread = threading.Thread(target=reply)
        thread.start()
        yield Address(host, listener.getsockname()[1])
        thread.join()


@pytest.mark.parametrize("answer", NONSENSE, ids=range(len(NONSENSE)))
def test_summaries_that_are_nonsense(answer: bytes) -> None:
    with answering(answer) as address, pytest.raises(BoardError) as caught:
        asyncio.run(devices(address))
    check_line(str(caught.value), address)


@pytest.mark.parametrize("answer", [*NONSENSE[:15], *OFFERS])
def test_leases_that_are_nonsense(answer: bytes) -> None:
    with answering(answer) as address, pytest.raises(BoardError) as caught:
        asyncio.run(request(address, "rpi4"))
    check_line(str(caught.value), address)


def check_line(message: str, address: Address) -> None:
    assert message.startswith(f"tracker {address}: ")
    assert "\n" not in message
    assert len(message) < 300


def test_long_names_are_cut() -> None:
    board = BOARD | {"key": "server:" + "k" * 10_000, "client": "c" * 10_000}
    with answering(json.dumps([0, {"server_info": [board]}]).encode()) as address:
        (found,) = asyncio.run(devices(address))
    assert (len(found.key), len(found.client or "")) == (100, 100)


def has_ipv6() -> bool:
    """Tell whether this machine can listen on IPv6's loopback."""
    with suppress(OSError), socket.socket(socket.AF_INET6) as tried:
        tried.bind(("::1", 0))
        return True
    return False


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_a_tracker_on_ipv6() -> None:
    board = BOARD | {"addr": ["fe80::1", 9090]}
    with answering(json.dumps([0, {"server_info": [board]}]).encode(), "::1") as address:
        assert str(address).startswith("[::1]:")
        (found,) = asyncio.run(devices(Address.parse(str(address))))
    assert found.board == "[fe80::1]:9090"
