"""Asking a tracker of TVM for boards, without ever waiting longer than one wants to.

The tracker is TVM's own (``python -m tvm.exec.rpc_tracker``). Its messages are a length of four
bytes and JSON, after a greeting of four bytes; ``tvm/rpc/tracker.py`` describes them.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from gmpq.backends.rpc.address import Address
from gmpq.errors import BoardError, closest

MAGIC = 0x2F271
SUCCESS, REQUEST, SUMMARY = 0, 4, 6  # codes of tvm/rpc/base.py
LONGEST = 1 << 20
ANSWER_S = 10.0


@dataclass(frozen=True, slots=True)
class Offer:
    """A board that the tracker gave away; whoever shows it ``match_key`` is served."""

    board: Address
    match_key: str


@dataclass(frozen=True, slots=True)
class Holder:
    """A board that the tracker knows, and whom it serves, if it says so."""

    key: str
    board: str
    client: str | None


async def request(tracker: Address, key: str) -> Offer:
    """Return the next board of ``key`` that is free; waits for it as long as the caller does.

    Raises:
        BoardError: nobody answers at ``tracker``, or it is no tracker.
    """
    async with _connected(tracker) as (reader, writer):
        code, value = await _ask(reader, writer, [REQUEST, key, "", 1])
        if code != SUCCESS:
            raise BoardError(f"tracker {tracker}: refuses to hand out a board of {key!r}")
        host, port, match_key = value
        return Offer(Address(host, port), match_key)


async def holders(tracker: Address) -> tuple[Holder, ...]:
    """Return the boards that ``tracker`` knows.

    Raises:
        BoardError: nobody answers at ``tracker``, or it is no tracker.
    """
    async with _connected(tracker) as (reader, writer):
        try:
            async with asyncio.timeout(ANSWER_S):
                _, summary = await _ask(reader, writer, [SUMMARY])
        except TimeoutError as error:
            raise BoardError(f"tracker {tracker}: does not answer: start it again") from error
    return tuple(_holder(server) for server in summary["server_info"])


def told(found: Collection[Holder], key: str) -> str:
    """Return who holds the boards of ``key``, in words."""
    ours = [holder for holder in found if holder.key == key]
    if not ours:
        keys = sorted({holder.key for holder in found})
        others = f"it has {', '.join(keys)}" if keys else "it has none at all"
        return f"the tracker has no board of that key{closest(key, keys)}: {others}"
    return ", ".join(
        f"{holder.board} {'serves ' + holder.client if holder.client else 'names no client'}"
        for holder in ours
    )


def _holder(server: dict[str, Any]) -> Holder:
    key = str(server["key"]).removeprefix("server:")
    client = server.get("client")  # only servers of gmpq say it
    return Holder(key, ":".join(map(str, server["addr"])), None if client is None else str(client))


@asynccontextmanager
async def _connected(
    tracker: Address,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Yield a connection that has been greeted; the tracker forgets requests when it closes."""
    try:
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_connection(tracker.host, tracker.port)
    except (OSError, TimeoutError) as error:
        raise BoardError(
            f"tracker {tracker}: cannot be reached ({error or 'no answer'}): start it there with "
            f"python -m tvm.exec.rpc_tracker --host {tracker.host} --port {tracker.port} "
            f"--port-end {tracker.port + 1}"
        ) from error
    try:
        await _greet(tracker, reader, writer)
        yield reader, writer
    except TimeoutError:
        raise  # of whoever waits for an answer
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


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, question: Any) -> Any:
    text = json.dumps(question).encode()
    writer.write(struct.pack("<i", len(text)) + text)
    (size,) = struct.unpack("<i", await reader.readexactly(4))
    if not 0 < size <= LONGEST:
        raise EOFError("the tracker's answer has no length")
    return json.loads(await reader.readexactly(size))
