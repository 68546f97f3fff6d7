"""What this machine can multiply: MACs per second and thread, and its clock.

Loops run in turn, round after round; the fastest round counts, since other work on the machine can
only slow a loop down.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gmpq.backends.tvm.codegen.build import assemble
from gmpq.backends.tvm.kernels.base import Call, Tensor, Work
from gmpq.backends.tvm.plan.memory import Life, place
from gmpq.backends.tvm.plan.plan import FLOAT_BYTES, Plan, Step
from gmpq.backends.tvm.target import CpuTarget
from gmpq.ir import Graph, IntGraph, Value
from gmpq.runtime import Network
from machine.peak_loops import OUTPUT, OUTPUT_BYTES, Loop, chain, loops

ROUNDS = 400
LINKS = 300_000
LINK_CYCLES = 4  # an integer multiplication and an addition, on Intel and AMD since 2011 and 2017


@dataclass(frozen=True, slots=True)
class Peaks:
    """Of one thread: MACs per second by instruction, the tile that reached it, the clock."""

    rates: Mapping[str, float]
    tiles: Mapping[str, str]
    clock_hz: float

    def seconds(self, work: Work, threads: int) -> float:
        """Return the least time for ``work``; 0 where its instruction has no peak."""
        rate = self.rates.get(work.instruction)
        return 0.0 if rate is None else work.executed_macs / (rate * threads)

    def predicted_ms(self, cycles: float, threads: int) -> float:
        """Return the time of predicted cycles that ``threads`` share."""
        return cycles / self.clock_hz / threads * 1e3

    def __str__(self) -> str:
        found = sorted(self.rates.items(), key=lambda item: -item[1])
        rates = ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in found)
        return f"GMAC/s on one thread: {rates}; clock {self.clock_hz / 1e9:.2f} GHz"


def measure(target: CpuTarget, rounds: int = ROUNDS) -> Peaks:
    """Return the peaks of ``target``, which must run on this machine."""
    tried = loops(target)
    clock, *spent = shortest([chain(LINKS), *(loop.call() for loop in tried)], target, rounds)
    best: dict[str, tuple[float, Loop]] = {}
    for loop, seconds in zip(tried, spent, strict=True):
        rate = loop.macs / seconds
        if loop.instruction not in best or rate > best[loop.instruction][0]:
            best[loop.instruction] = (rate, loop)
    rates = {name: rate for name, (rate, _) in best.items()}
    tiles = {name: str(loop) for name, (_, loop) in best.items()}
    return Peaks(rates, tiles, LINKS * LINK_CYCLES / clock)


def shortest(calls: Sequence[Call], target: CpuTarget, rounds: int) -> list[float]:
    """Return the least seconds of each call, one of which writes at most ``OUTPUT_BYTES``."""
    with tempfile.TemporaryDirectory() as folder:
        program = assemble(NOTHING, planned(calls, target), target, Path(folder)).program
        step = Network(Path(folder), program).stepper()
        found = [float("inf")] * len(calls)
        for _ in range(rounds):
            for i in range(len(calls)):
                start = time.perf_counter()
                step(i, i + 1)
                found[i] = min(found[i], time.perf_counter() - start)
    return found


NOTHING: IntGraph = Graph("peaks", (), (), {}, ())


def planned(calls: Sequence[Call], target: CpuTarget) -> Plan:
    """Return a plan of a step per call; all write to the same memory."""
    steps = tuple(Step("peak", (OUTPUT,), "peak", "", (call,), {}, {}) for call in calls)
    output = Tensor(Value(OUTPUT, (OUTPUT_BYTES // FLOAT_BYTES,)), None)
    memory = place({OUTPUT: Life(OUTPUT_BYTES, 0, 0)}, target.layout_rules)
    return Plan(steps, {OUTPUT: output}, memory)
