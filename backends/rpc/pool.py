"""Doing jobs on all boards of a key that the tracker hands out, several at once.

    fleet = Fleet(Address("192.168.0.2", 9190), "rpi4", boards=2)
    report = run(fleet, [job, job], Path("values"))

A board that is lost is replaced by another one, and what it had told is kept. A program that fails
on a board would fail on its likes: it is not tried again.
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
from gmpq.backends.rpc.session import Patience, Visit, Worker, started, visit
from gmpq.backends.rpc.tasks import Task
from gmpq.backends.rpc.tracker import Offer
from gmpq.errors import BoardError

TRIES = 3  # boards that may be lost over one job
ASK_S = 1.0  # a tracker is asked at least so long, however short the deadline
AGAIN_S = 1.0  # a board that is not wanted comes back from the tracker at once


@dataclass(frozen=True, slots=True)
class Fleet:
    """The boards of a key, and how long one is willing to wait."""

    tracker: Address
    key: str
    boards: int = 1  # at once
    deadline_s: float = 600.0  # of everything
    silence_s: float = 60.0  # of one board
    distinct: bool = False  # every job on a board of its own


@dataclass(slots=True)
class Report:
    """The visits that were made, by job, and why some are missing."""

    visits: list[tuple[int, Visit]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


Ended: TypeAlias = Callable[[int, Visit], object]  # is called with a task's index and its visit


def run(
    fleet: Fleet,
    jobs: Sequence[Task],
    folder: Path,
    told: Callable[[str], object] = lambda _: None,
    ended: Ended = lambda _index, _visit: None,
) -> Report:
    """Return what happened to ``jobs``; ``told`` hears of boards as they are taken and lost.

    Every visit gets a folder in ``folder`` for the values of its runs; ``ended`` hears of it as
    soon as it is over.

    Raises:
        BoardError: the tracker cannot be reached.
    """
    return asyncio.run(_Run(fleet, jobs, folder, told, ended).all())


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Report what a task raised unseen, unless a signal that ends the process came during it."""
    if not isinstance(context.get("exception"), SystemExit | KeyboardInterrupt):
        loop.default_exception_handler(context)


class _Run:
    """The state of a run: what has been found out, and which boards are not wanted any more."""

    def __init__(
        self,
        fleet: Fleet,
        jobs: Sequence[Task],
        folder: Path,
        told: Callable[[str], object],
        ended: Ended,
    ) -> None:
        self.fleet = fleet
        self.folder = folder
        self.waiting = list(enumerate(jobs))
        self.told = told
        self.ended = ended
        self.report = Report()
        self.used: set[Address] = set()
        self.end = 0.0

    async def all(self) -> Report:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_report)
        self.end = loop.time() + self.fleet.deadline_s
        await tracker.holders(self.fleet.tracker)  # tells at once when there is no tracker
        count = min(self.fleet.boards, len(self.waiting))
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(self._work())
        if self.waiting and not self.report.missing:
            self.report.missing.append(f"{len(self.waiting)} more: the deadline is over")
        return self.report

    async def _work(self) -> None:
        while self.waiting and self._left() > 0:
            index, job = self.waiting.pop(0)
            for _ in range(TRIES):
                found = await self._try(job)
                if found is None:
                    return
                self.report.visits.append((index, found))
                self.ended(index, found)
                if not found.lost or self._left() == 0:
                    break
                self.used.add(found.board)
                self.told(f"{found.board}: {found.lost}")

    async def _try(self, job: Task) -> Visit | None:
        """Return the visit to the next board, or None if there is none."""
        try:
            async with started() as worker:
                offer = await self._offer()
                return None if offer is None else await self._visit(worker, job, offer)
        except BoardError as error:  # the tracker has gone; other visits go on
            self.report.missing.append(str(error))
            return None

    async def _visit(self, worker: Worker, job: Task, offer: Offer) -> Visit:
        self.told(f"running on {offer.board}")
        found = Visit(offer.board, Path(tempfile.mkdtemp(dir=self.folder)))
        patience = Patience(self._left(), self.fleet.silence_s)
        await visit(worker, job, found, offer.match_key, patience)
        return found

    async def _offer(self) -> Offer | None:
        """Return a board, or None and write down why there is none."""
        try:
            async with asyncio.timeout(max(self._left(), ASK_S)):
                while True:
                    offer = await tracker.request(self.fleet.tracker, self.fleet.key)
                    if offer.board not in self.used:
                        if self.fleet.distinct:
                            self.used.add(offer.board)
                        return offer
                    if await self._all_used():
                        self.report.missing.append(self._used())
                        return None
                    await asyncio.sleep(AGAIN_S)
        except TimeoutError:
            self.report.missing.append(await self._none_free())
            return None

    async def _all_used(self) -> bool:
        found = await tracker.holders(self.fleet.tracker)
        used = {str(board) for board in self.used}
        return {holder.board for holder in found if holder.key == self.fleet.key} <= used

    def _used(self) -> str:
        return f"no board of {self.fleet.key!r} is left: the tracker knows {len(self.used)}"

    async def _none_free(self) -> str:
        found = await tracker.holders(self.fleet.tracker)
        return (
            f"no board of {self.fleet.key!r} was free within {self.fleet.deadline_s:g} s: "
            f"{tracker.told(found, self.fleet.key)}"
        )

    def _left(self) -> float:
        return max(0.0, self.end - asyncio.get_running_loop().time())
