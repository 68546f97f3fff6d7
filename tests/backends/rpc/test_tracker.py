"""Trackers that are not there, are none, or have nothing: each is told in one line."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import suppress

import pytest

from gmpq.backends.rpc.address import Address
from gmpq.backends.rpc.tracker import Holder, holders, told
from gmpq.errors import BoardError
from tests.trackers import Tracker

HERE = Holder("rpi4", "10.0.0.5:9090", "10.0.0.9:5000")


def test_an_empty_tracker(tracker: Tracker) -> None:
    assert asyncio.run(holders(tracker.address)) == ()


def test_no_tracker() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(
            BoardError, match=rf"tracker 127.0.0.1:{port}: cannot be reached .* --p"
        ):
            asyncio.run(holders(Address("127.0.0.1", port)))


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
            asyncio.run(holders(Address("127.0.0.1", listener.getsockname()[1])))
        thread.join()


@pytest.mark.parametrize(
    ("found", "key", "message"),
    [
        ((), "rpi4", "the tracker has no board of that key: it has none at all"),
        ((HERE,), "rpi5", "no board of that key (did you mean rpi4?): it has rpi4"),
        ((HERE,), "rpi4", "10.0.0.5:9090 serves 10.0.0.9:5000"),
        ((Holder("rpi4", "a:1", None),), "rpi4", "a:1 names no client"),
    ],
    ids=["none", "other-key", "held", "unnamed"],
)
def test_holders_in_words(found: tuple[Holder, ...], key: str, message: str) -> None:
    assert told(found, key).endswith(message)


@pytest.mark.parametrize("text", ["", "host", ":9190", "host:", "host:0", "host:70000", "host:x"])
def test_addresses(text: str) -> None:
    with pytest.raises(BoardError, match="give HOST:PORT"):
        Address.parse(text)
    assert str(Address.parse("::1:9190")) == "::1:9190"
