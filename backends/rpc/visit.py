"""One visit to a board: everything that is heard of it until it is done, fails or is lost."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from gmpq.backends.rpc.address import Address
from gmpq.backends.rpc.job import Job
from gmpq.backends.rpc.tracker import Offer

LONGEST_LINE = 1 << 26
ENDS = frozenset(("done", "failed", "lost"))
WORKER = "gmpq.backends.rpc.worker"


@dataclass(slots=True)
class Visit:
    """What a board told while a job ran; ``failed`` and ``lost`` say why it ended early."""

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
class Patience:
    """How long a visit may take, and how long nothing may be heard of the board."""

    seconds: float
    silence_s: float


async def visit(job: Job, offer: Offer, values: Path, patience: Patience) -> Visit:
    """Return what happened on the offered board; the values of its runs go into ``values``."""
    found = Visit(offer.board, values)
    start = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(patience.seconds):
            async with aclosing(_events(job, offer, values, patience)) as events:
                async for event in events:
                    found.hear(event)
    except TimeoutError:
        elapsed = asyncio.get_running_loop().time() - start
        over = elapsed >= patience.seconds
        found.lost = "the deadline is over" if over else f"silent for {patience.silence_s:g} s"
    return found


async def _events(
    job: Job, offer: Offer, values: Path, patience: Patience
) -> AsyncGenerator[dict[str, Any], None]:
    """Yield what the worker tells, the last of which is how it ended."""
    with tempfile.TemporaryFile() as errors:
        process = await _started(errors)
        assert process.stdin is not None
        assert process.stdout is not None
        key = f"{offer.match_key} -timeout={max(1.0, patience.seconds):.0f}"
        where = json.dumps([offer.board.host, offer.board.port, key, str(values)])
        try:
            process.stdin.write(f"{where}\n{job.to_json()}\n".encode())
            with suppress(OSError):
                await process.stdin.drain()
            while line := await _line(process.stdout, patience.silence_s):
                event = json.loads(line)
                yield event
                if not ENDS.isdisjoint(event):
                    return
            errors.seek(0)
            last = errors.read().decode(errors="replace").strip().rpartition("\n")[2]
            yield {"lost": f"its worker ended: {last or 'without a word'}"}
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _started(errors: IO[bytes]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", WORKER),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=errors,
        limit=LONGEST_LINE,
        env=os.environ | {"TVM_FFI_DISABLE_TORCH_C_DLPACK": "1"},  # importing torch takes seconds
    )


async def _line(stream: asyncio.StreamReader, silence_s: float) -> bytes:
    async with asyncio.timeout(silence_s):
        return await stream.readline()
