"""One visit to a board: everything that is heard of it until it is done, fails or is lost."""

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
class Patience:
    """How long a visit may take, and how long nothing may be heard of the board."""

    seconds: float
    silence_s: float


@dataclass(slots=True)
class Visit:
    """What a board told while a task was done; ``failed`` and ``lost`` say why it ended early."""

    board: Address
    values: Path  # a folder; its file 0 has the values of the run on sample 0
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    samples: int = 0
    runs_ms: list[float] = field(default_factory=list)
    steps_ms: list[list[float]] = field(default_factory=list)
    failed: str = ""
    lost: str = ""
    done: bool = False

    @property
    def over(self) -> bool:
        """Whether nothing more is to be heard."""
        return bool(self.done or self.failed or self.lost)

    @property
    def emulated(self) -> bool:
        """Whether the board's processor is an emulated one."""
        return bool(self.before.get("emulated"))

    def hear(self, event: dict[str, Any]) -> None:
        """Add what the worker told."""
        match event:
            case {"board": dict(told)}:
                self.before, self.after = self.before or told, told
            case {"sample": int(index)}:
                self.samples = index + 1
            case {"runs": list(times)}:
                self.runs_ms += times
            case {"steps": list(rounds)}:
                self.steps_ms += rounds
            case {"failed": str(why)}:
                self.failed = why
            case {"lost": str(why)}:
                self.lost = why
            case {"done": True}:
                self.done = True
            case _:
                raise AssertionError(f"the worker told {event}")


@dataclass(frozen=True, slots=True)
class Worker:
    """A process that is ready to talk to a board, and where it prints what goes wrong with it."""

    process: asyncio.subprocess.Process
    errors: IO[bytes]

    async def send(self, text: str) -> None:
        """Give the process its lines."""
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())
        with suppress(OSError):  # it ended: that is heard
            await self.process.stdin.drain()

    async def hear(self, seconds: float) -> dict[str, Any]:
        """Return the next event; raises TimeoutError after ``seconds`` without any."""
        assert self.process.stdout is not None
        async with asyncio.timeout(seconds):
            line = await self.process.stdout.readline()
        if line:
            event: dict[str, Any] = json.loads(line)
            return event
        self.errors.seek(0)
        last = self.errors.read().decode(errors="replace").strip().rpartition("\n")[2]
        return {"lost": f"its worker ended: {last or 'without a word'}"}


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
            await process.wait()


async def _wait_ready(worker: Worker) -> None:
    try:
        told = await worker.hear(START_S)
    except TimeoutError as error:
        raise BoardError(
            f"{WORKER}: not ready within {START_S:g} s: is the machine busy?"
        ) from error
    if "lost" in told:
        raise BoardError(f"{WORKER}: {told['lost']}")


async def visit(worker: Worker, task: Task, to: Visit, match_key: str, patience: Patience) -> None:
    """Add to the visit ``to`` what happens on its board, until it ends."""
    start = asyncio.get_running_loop().time()
    key = f"{match_key} -timeout={max(1.0, patience.seconds):.0f}"
    where = json.dumps([to.board.host, to.board.port, key, str(to.values)])
    try:
        async with asyncio.timeout(patience.seconds):
            await worker.send(f"{where}\n{to_json(task)}\n")
            while not to.over:
                to.hear(await worker.hear(patience.silence_s))
    except TimeoutError:
        elapsed = asyncio.get_running_loop().time() - start
        over = elapsed >= patience.seconds
        to.lost = "the deadline is over" if over else f"silent for {patience.silence_s:g} s"
