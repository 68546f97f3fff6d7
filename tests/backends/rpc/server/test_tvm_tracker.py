"""The tracker of TVM itself, and its client, with the board's server."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import pytest

from gmpq.backends.rpc.address import Address
from gmpq.backends.rpc.tracker import Device, devices, request
from gmpq.errors import BoardError
from tests.support.boards import PATIENCE_S, StartBoard, call, connect_to

NEEDED = ("tornado", "cloudpickle", "psutil")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason="TVM's tracker: needs the extra rpc")


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
    return port


@contextmanager
def tvm_tracker(address: Address) -> Iterator[None]:
    """Run TVM's tracker, whose worker outlives it unless the whole group is ended."""
    end = str(address.port + 1)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "tvm.exec.rpc_tracker", "--host", address.host),
            *("--port", str(address.port), "--port-end", end),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        known(address, lambda _: True)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def known(address: Address, wanted: Callable[[Sequence[Device]], object]) -> Sequence[Device]:
    """Return what the tracker knows, once it is what is wanted."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        with suppress(BoardError):
            found = asyncio.run(devices(address))
            if wanted(found):
                return found
        time.sleep(0.1)
    pytest.fail("the tracker does not know the board")


def test_a_board_at_tvms_tracker_that_goes_and_comes_back(start_board: StartBoard) -> None:
    address = Address("127.0.0.1", free_port())
    board = start_board(None, "--tracker", str(address), key="rpi")
    place = f"127.0.0.1:{board.port}"
    for _ in range(2):
        with tvm_tracker(address):
            known(address, lambda found: found == (Device("rpi", place, None),))
            for _ in range(2):
                offer = asyncio.run(request(address, "rpi"))
                assert str(offer.board) == place
                session = connect_to(offer.board.host, offer.board.port, offer.match_key)
                assert call(session, "gmpq.board.information")
                known(address, lambda found: found[0].client is not None)
                del session
    board.wait_log("has gone: dialing until it is back", 2)
