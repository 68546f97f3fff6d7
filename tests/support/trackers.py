"""A tracker of boards that speaks the protocol of TVM's, and can be ended and started again."""

from __future__ import annotations

import json
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from gmpq.backends.rpc.address import Address

MAGIC = 0x2F271
PUT, REQUEST, UPDATE, SUMMARY, PENDING = 3, 4, 5, 6, 7


class Tracker(socketserver.ThreadingTCPServer):
    """Listens on loopback; ``boards`` are those that it knows, ``free`` those it can hand out."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        self.changed = threading.Condition()
        self.boards: dict[_Peer, dict[str, Any]] = {}
        self.free: list[tuple[_Peer, str, list[Any]]] = []
        self.connections: set[socket.socket] = set()
        self.ending = False
        super().__init__(("127.0.0.1", port), _Peer)

    @property
    def address(self) -> Address:
        return Address(*self.server_address[:2])  # type: ignore[arg-type]

    def wait_for(self, key: str, count: int = 1) -> None:
        """Wait until so many boards of ``key`` are free."""
        with self.changed:
            arrived = self.changed.wait_for(
                lambda: sum(name == key for _, name, _ in self.free) >= count, 60
            )
        assert arrived, f"no {count} boards of {key} came"

    def wait_until_known(self, condition: Callable[[dict[str, Any]], bool]) -> None:
        """Wait until a board says something that meets ``condition``."""
        with self.changed:
            said = self.changed.wait_for(lambda: any(map(condition, self.boards.values())), 60)
        assert said

    def take(self, key: str) -> list[Any]:
        with self.changed:
            self.changed.wait_for(
                lambda: self.ending or any(name == key for _, name, _ in self.free), 60
            )
            for index, (_, name, value) in enumerate(self.free):
                if name == key:
                    del self.free[index]
                    return value
        raise EOFError

    def forget(self, peer: _Peer) -> None:
        with self.changed:
            self.boards.pop(peer, None)
            self.free = [each for each in self.free if each[0] is not peer]

    def close_connections(self) -> None:
        for connection in tuple(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def summary(self) -> dict[str, Any]:
        with self.changed:
            return {"server_info": list(self.boards.values())}


class _Peer(socketserver.BaseRequestHandler):
    server: Tracker

    def handle(self) -> None:
        self.server.connections.add(self.request)
        with suppress(OSError, EOFError):
            assert struct.unpack("<i", self.read(4)) == (MAGIC,)
            self.request.sendall(struct.pack("<i", MAGIC))
            while True:
                (size,) = struct.unpack("<i", self.read(4))
                answer = json.dumps(self.answer(*json.loads(self.read(size)))).encode()
                self.request.sendall(struct.pack("<i", len(answer)) + answer)
        self.server.forget(self)

    def read(self, size: int) -> bytes:
        content = b""
        while len(content) < size:
            part = self.request.recv(size - len(content))
            if not part:
                raise EOFError
            content += part
        return content

    def answer(self, code: int, *given: Any) -> Any:
        tracker = self.server
        host = self.client_address[0]
        with tracker.changed:
            tracker.changed.notify_all()  # whoever waits goes on when this block ends
            if code == PUT:
                key, (port, match_key), _ = given
                tracker.free.append((self, key, [host, port, match_key]))
                return 0
            if code == UPDATE:
                tracker.boards[self] = {**given[0], "addr": [host, given[0]["addr"][1]]}
                return 0
            if code == PENDING:
                return [value[2] for peer, _, value in tracker.free if peer is self]
        return [0, tracker.summary() if code == SUMMARY else tracker.take(given[0])]


@contextmanager
def running(port: int = 0) -> Iterator[Tracker]:
    """Run a tracker until the block ends, which then closes all its connections."""
    tracker = Tracker(port)
    thread = threading.Thread(target=tracker.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield tracker
    finally:
        tracker.shutdown()
        thread.join()
        with tracker.changed:
            tracker.ending = True
            tracker.changed.notify_all()
        tracker.close_connections()
        tracker.server_close()
