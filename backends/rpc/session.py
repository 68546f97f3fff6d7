"""A session on a board: all events until the task is done or fails, or the board disconnects."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from gmpq.backends.rpc.address import Address
from gmpq.backends.rpc.tasks import Task, to_json
from gmpq.errors import BoardError

NOT_A_LATENCY = "emulated, not a latency"
START_S = 60.0  # loading libraries
LONGEST_LINE = 1 << 26
WORKER = "gmpq.backends.rpc.worker"
# tvm_ffi imports torch where it is installed, which takes seconds for nothing.
START = f"""\
import runpy, sys
sys.modules["torch"] = None
runpy.run_module("{WORKER}", run_name="__main__")
"""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The longest duration of a session, and the longest time without an event."""

    total_s: float
    idle_timeout_s: float


@dataclass(slots=True)
class Session:
    """The results of a task on a board; ``failed`` or ``disconnected`` say why it ended early."""

    board: Address
    values: Path  # a folder; its file 0 has the values of the run on sample 0
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    samples: int = 0
    runs_ms: list[float] = field(default_factory=list)
    steps_ms: list[list[float]] = field(default_factory=list)
    failed: str = ""
    disconnected: str = ""
    done: bool = False

    @property
    def over(self) -> bool:
        """Whether no more events follow."""
        return bool(self.done or self.failed or self.disconnected)

    @property
    def emulated(self) -> bool:
        """Whether the board's processor is an emulated one."""
        return bool(self.before.get("emulated"))

    def on_event(self, event: dict[str, Any]) -> None:
        """Add an event of the worker to the results."""
        match event:
            case {"board": dict(information)}:
                self.before, self.after = self.before or information, information
            case {"sample": int(index)}:
                self.samples = index + 1
            case {"runs": list(times)}:
                self.runs_ms += times
            case {"steps": list(rounds)}:
                self.steps_ms += rounds
            case {"failed": str(why)}:
                self.failed = why
            case {"disconnected": str(why)}:
                self.disconnected = why
            case {"done": True}:
                self.done = True
            case _:
                raise AssertionError(f"unknown event of the worker: {event}")


@dataclass(frozen=True, slots=True)
class Worker:
    """A process that connects to a board, and the file that holds its stderr."""

    process: asyncio.subprocess.Process
    errors: IO[bytes]

    async def send(self, text: str) -> None:
        """Write ``text`` to the process."""
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())
        with suppress(OSError):  # it ended, which the next event reports
            await self.process.stdin.drain()

    async def next_event(self, seconds: float) -> dict[str, Any]:
        """Return the next event; raises TimeoutError after ``seconds`` without any."""
        assert self.process.stdout is not None
        async with asyncio.timeout(seconds):
            line = await self.process.stdout.readline()
        if line:
            event: dict[str, Any] = json.loads(line)
            return event
        self.errors.seek(0)
        last = self.errors.read().decode(errors="replace").strip().rpartition("\n")[2]
        return {"disconnected": f"its worker ended: {last or 'no message'}"}


@asynccontextmanager
async def started() -> AsyncIterator[Worker]:
    """Yield a worker that is ready at once, since a board waits only a few seconds for its client.

    It ends with the block.

    Raises:
        BoardError: it cannot start.
    """
    with tempfile.TemporaryFile() as errors:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", START),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            limit=LONGEST_LINE,
        )
        try:
            worker = Worker(process, errors)
            await _wait_ready(worker)
            yield worker
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await _closed(process)


async def _closed(process: asyncio.subprocess.Process) -> None:
    """Return when ``process`` has ended and its pipes are closed, which a closed loop cannot do.

    A signal cancels a session twice, by the loop and by its group of tasks: the second time, here.
    """
    assert process.stdin is not None
    process.stdin.close()
    ending = asyncio.ensure_future(process.communicate())
    cancelled: asyncio.CancelledError | None = None
    while not ending.done():
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


async def _wait_ready(worker: Worker) -> None:
    try:
        event = await worker.next_event(START_S)
    except TimeoutError as error:
        raise BoardError(
            f"{WORKER}: not ready within {START_S:g} s: is the machine busy?"
        ) from error
    if "disconnected" in event:
        raise BoardError(f"{WORKER}: {event['disconnected']}")


async def run_task(
    worker: Worker, task: Task, session: Session, match_key: str, timeouts: Timeouts
) -> None:
    """Run ``task`` on the board of ``session`` and add all events to it, until it ends."""
    start = asyncio.get_running_loop().time()
    key = f"{match_key} -timeout={max(1.0, timeouts.total_s):.0f}"
    where = json.dumps([session.board.host, session.board.port, key, str(session.values)])
    try:
        async with asyncio.timeout(timeouts.total_s):
            await worker.send(f"{where}\n{to_json(task)}\n")
            while not session.over:
                session.on_event(await worker.next_event(timeouts.idle_timeout_s))
    except TimeoutError:
        elapsed = asyncio.get_running_loop().time() - start
        silent = f"silent for {timeouts.idle_timeout_s:g} s"
        session.disconnected = "the deadline is over" if elapsed >= timeouts.total_s else silent
