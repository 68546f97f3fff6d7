"""Running tasks on the boards of a key, several at once; a tracker of TVM leases the boards.

    devices = DevicePool(Address("192.168.0.2", 9190), "rpi4", boards=2)
    report = run(devices, [task, task], Path("values"))

A board that disconnects is replaced by another one; its results until then are kept. A program that
fails on one board is not retried on identical boards.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from gmpq.backends.rpc import tracker
from gmpq.backends.rpc.address import Address
from gmpq.backends.rpc.session import Session, Timeouts, Worker, run_task, started
from gmpq.backends.rpc.tasks import Task
from gmpq.backends.rpc.tracker import Lease
from gmpq.errors import BoardError

TRIES = 3  # boards that may disconnect during one task
ASK_S = 1.0  # the least time to wait for the tracker, however short the deadline
AGAIN_S = 1.0  # a board that is not wanted comes back from the tracker at once


@dataclass(frozen=True, slots=True)
class DevicePool:
    """The boards of a key at a tracker, and how long to wait for them."""

    tracker: Address
    key: str
    boards: int = 1  # at once
    deadline_s: float = 600.0  # of all tasks together
    idle_timeout_s: float = 60.0  # without an event of a board
    distinct: bool = False  # at most one task per board


@dataclass(slots=True)
class Report:
    """The sessions, each with the index of its task, and why some are missing."""

    sessions: list[tuple[int, Session]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


OnEnd: TypeAlias = Callable[[int, Session], object]  # is called with a task's index


def run(
    devices: DevicePool,
    tasks: Sequence[Task],
    folder: Path,
    on_progress: Callable[[str], object] = lambda _: None,
    on_end: OnEnd = lambda _index, _session: None,
) -> Report:
    """Return the sessions of ``tasks``.

    ``on_progress`` receives a line when a board is leased or disconnects, ``on_end`` each session
    when it ends. Every session gets a folder in ``folder`` for the values of its runs.

    Raises:
        BoardError: the tracker cannot be reached.
    """
    return asyncio.run(_Run(devices, tasks, folder, on_progress, on_end).all())


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Report an exception that no task received, unless a signal ended the process meanwhile."""
    if not isinstance(context.get("exception"), SystemExit | KeyboardInterrupt):
        loop.default_exception_handler(context)


class _Run:
    """The state of a run: its results, and the boards that are not leased again."""

    def __init__(
        self,
        devices: DevicePool,
        tasks: Sequence[Task],
        folder: Path,
        on_progress: Callable[[str], object],
        on_end: OnEnd,
    ) -> None:
        self.devices = devices
        self.folder = folder
        self.waiting = list(enumerate(tasks))
        self.on_progress = on_progress
        self.on_end = on_end
        self.report = Report()
        self.used: set[Address] = set()
        self.end = 0.0

    async def all(self) -> Report:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_report)
        self.end = loop.time() + self.devices.deadline_s
        await tracker.devices(self.devices.tracker)  # fails at once without a tracker
        count = min(self.devices.boards, len(self.waiting))
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(self._work())
        if self.waiting and not self.report.missing:
            self.report.missing.append(f"{len(self.waiting)} more: the deadline is over")
        return self.report

    async def _work(self) -> None:
        while self.waiting and self._left() > 0:
            index, task = self.waiting.pop(0)
            for _ in range(TRIES):
                session = await self._try(task)
                if session is None:
                    return
                self.report.sessions.append((index, session))
                self.on_end(index, session)
                if not session.disconnected or self._left() == 0:
                    break
                self.used.add(session.board)
                self.on_progress(f"{session.board}: {session.disconnected}")

    async def _try(self, task: Task) -> Session | None:
        """Return the session on the next board, or None if there is none."""
        try:
            async with started() as worker:
                lease = await self._lease()
                return None if lease is None else await self._run(worker, task, lease)
        except BoardError as error:  # the tracker is gone; other sessions go on
            self.report.missing.append(str(error))
            return None

    async def _run(self, worker: Worker, task: Task, lease: Lease) -> Session:
        self.on_progress(f"running on {lease.board}")
        session = Session(lease.board, Path(tempfile.mkdtemp(dir=self.folder)))
        timeouts = Timeouts(self._left(), self.devices.idle_timeout_s)
        await run_task(worker, task, session, lease.match_key, timeouts)
        return session

    async def _lease(self) -> Lease | None:
        """Return a board, or None after adding the reason to the report."""
        try:
            async with asyncio.timeout(max(self._left(), ASK_S)):
                while True:
                    lease = await tracker.request(self.devices.tracker, self.devices.key)
                    if lease.board not in self.used:
                        if self.devices.distinct:
                            self.used.add(lease.board)
                        return lease
                    if await self._all_used():
                        self.report.missing.append(self._used())
                        return None
                    await asyncio.sleep(AGAIN_S)
        except TimeoutError:
            self.report.missing.append(await self._none_free())
            return None

    async def _all_used(self) -> bool:
        found = await tracker.devices(self.devices.tracker)
        used = {str(board) for board in self.used}
        return {device.board for device in found if device.key == self.devices.key} <= used

    def _used(self) -> str:
        return f"no board of {self.devices.key!r} is left: the tracker knows {len(self.used)}"

    async def _none_free(self) -> str:
        found = await tracker.devices(self.devices.tracker)
        return (
            f"no board of {self.devices.key!r} was free within {self.devices.deadline_s:g} s: "
            f"{tracker.clients_of(found, self.devices.key)}"
        )

    def _left(self) -> float:
        return max(0.0, self.end - asyncio.get_running_loop().time())
