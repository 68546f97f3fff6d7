"""Requests to a tracker of TVM for boards, each with a timeout.

The tracker is TVM's own (``python -m tvm.exec.rpc_tracker``). Its messages are a length of four
bytes and JSON, after a greeting of four bytes; ``tvm/rpc/tracker.py`` describes them.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from gmpq.backends.rpc.address import LAST_PORT, Address, is_host
from gmpq.errors import BoardError, JsonError, closest
from gmpq.files.strict_json import Parsed, listed, load, positive, require, show, string, unique

MAGIC = 0x2F271
SUCCESS, REQUEST, SUMMARY = 0, 4, 6  # codes of tvm/rpc/base.py
LONGEST = 1 << 20  # bytes of an answer
LONGEST_NAME = 100  # letters of a name that is shown
ANSWER_S = 10.0


@dataclass(frozen=True, slots=True)
class Lease:
    """A board that the tracker leased; it serves the client that sends ``match_key``."""

    board: Address
    match_key: str


@dataclass(frozen=True, slots=True)
class Device:
    """A board that the tracker knows, and the client that it serves, if known."""

    key: str
    board: str
    client: str | None


async def request(tracker: Address, key: str) -> Lease:
    """Return the next free board of ``key``; the caller limits the waiting time.

    Raises:
        BoardError: nobody answers at ``tracker``, or it is no tracker.
    """
    async with _connected(tracker) as (reader, writer):
        answer = await _ask(reader, writer, [REQUEST, key, "", 1])
        with _understood(tracker):
            code, value = _pair(load(answer))
            if code == SUCCESS:
                return _lease(value)
    raise BoardError(f"tracker {tracker}: refuses to hand out a board of {key!r}")


async def devices(tracker: Address) -> tuple[Device, ...]:
    """Return the boards that ``tracker`` knows.

    Raises:
        BoardError: nobody answers at ``tracker``, or it is no tracker.
    """
    async with _connected(tracker) as (reader, writer):
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = await _ask(reader, writer, [SUMMARY])
        except TimeoutError as error:
            raise BoardError(f"tracker {tracker}: does not answer: start it again") from error
    with _understood(tracker):
        _, summary = _pair(load(answer))
        fields = unique("its summary", summary)
        require("its summary", fields, "server_info")
        return tuple(_device(each) for each in listed("server_info", fields["server_info"]))


def clients_of(found: Collection[Device], key: str) -> str:
    """Return as text which clients hold the boards of ``key``."""
    ours = [device for device in found if device.key == key]
    if not ours:
        keys = sorted({device.key for device in found})
        others = f"it has {', '.join(keys)}" if keys else "it has none at all"
        return f"the tracker has no board of that key{closest(key, keys)}: {others}"
    return ", ".join(
        f"{device.board} {'serves ' + device.client if device.client else 'names no client'}"
        for device in ours
    )


@contextmanager
def _understood(tracker: Address) -> Iterator[None]:
    try:
        yield
    except JsonError as error:
        raise BoardError(
            f"tracker {tracker}: answers nonsense ({error}): is it a tracker of TVM?"
        ) from error


def _pair(answer: Parsed) -> tuple[Parsed, Parsed]:
    items = listed("its answer", answer)
    if len(items) != 2:
        raise JsonError(f"its answer: must be a code and a value, got {show(answer)}")
    return items[0], items[1]


def _lease(value: Parsed) -> Lease:
    items = listed("its lease", value)
    if len(items) != 3:
        raise JsonError(f"its lease: must be host, port and key, got {show(value)}")
    return Lease(_address(items[:2]), string("its lease", items[2]))


def _address(value: Parsed) -> Address:
    items = listed("an address", value)
    if len(items) != 2:
        raise JsonError(f"an address: must be host and port, got {show(value)}")
    host, port = string("a host", items[0]), positive("a port", items[1], LAST_PORT)
    if not is_host(host):
        raise JsonError(f"a host: {show(host)} is none")
    return Address(host, port)


def _device(server: Parsed) -> Device:
    fields = unique("a board", server)
    require("a board", fields, "key", "addr")
    key = string("a key", fields["key"]).removeprefix("server:")
    given = fields.get("client")  # only servers of gmpq have it
    client = None if given is None else string("a client", given)[:LONGEST_NAME]
    return Device(key[:LONGEST_NAME], str(_address(fields["addr"])), client)


@asynccontextmanager
async def _connected(
    tracker: Address,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Yield a connection that has been greeted; the tracker forgets requests when it closes."""
    try:
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_connection(tracker.host, tracker.port)
    except OSError as error:  # TimeoutError is one
        reason = error.strerror or str(error) or "no answer"
        raise BoardError(
            f"tracker {tracker}: cannot be reached ({reason}): start it there with "
            f"python -m tvm.exec.rpc_tracker --host {tracker.host} --port {tracker.port} "
            f"--port-end {tracker.port + 1}"
        ) from error
    try:
        await _greet(tracker, reader, writer)
        yield reader, writer
    except TimeoutError:
        raise  # for the caller, which limits the wait
    except (OSError, EOFError) as error:
        raise BoardError(f"tracker {tracker}: has gone: start it again") from error
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def _greet(
    tracker: Address, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    try:
        async with asyncio.timeout(ANSWER_S):
            writer.write(struct.pack("<i", MAGIC))
            (magic,) = struct.unpack("<i", await reader.readexactly(4))
    except (TimeoutError, EOFError):
        magic = None
    if magic != MAGIC:
        raise BoardError(f"tracker {tracker}: something else listens there: check the address")


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, question: Any) -> str:
    """Return the text of the answer to ``question``."""
    text = json.dumps(question).encode()
    writer.write(struct.pack("<i", len(text)) + text)
    (size,) = struct.unpack("<i", await reader.readexactly(4))
    if not 0 < size <= LONGEST:
        raise EOFError("the tracker's answer has no length")
    return (await reader.readexactly(size)).decode(errors="replace")
