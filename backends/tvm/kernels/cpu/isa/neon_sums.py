"""Sums of products on NEON without dot products: fewer bits, fewer widenings.

An accumulator is a vector whose lanes hold parts of one sum of x * w over codes that lie side by
side in memory, sixteen a step. Products are added in the narrowest lanes that provably hold them:

    acc8  = sum over a run of steps of x * w                mla: sixteen products
    acc16 = sum over a run of x * w, or of pairs of acc8    smlal: eight products, or sadalp
    acc32 = sum of pairs of acc16                           sadalp

and at the end four accumulators become one vector of four sums (``neon.across``). Weights are
constants, and codes lie in low..high, so that a lane's sum over a run has bounds whatever the
codes: the sums of min(low * w, high * w) and of max(low * w, high * w). A run is legal if they fit
its lanes everywhere in the layer (``neon_runs``); sums on the way may wrap, since addition modulo
2**8 or 2**16 is exact if its result fits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.kernels.cpu.isa import neon
from gmpq.backends.tvm.kernels.cpu.isa.builder import Buffer, Expr, assign, zeros
from gmpq.backends.tvm.kernels.cpu.isa.neon_runs import NeonRuns, Steps

StepIndex: TypeAlias = tuple[Expr, Expr, Expr]  # the loops of ``Steps``
OperandPair: TypeAlias = tuple[Expr, Expr]  # codes, weights
StepOperands: TypeAlias = Callable[
    [StepIndex], list[OperandPair]
]  # of every accumulator in one step


def summed(runs: NeonRuns, count: int, together: int, products: StepOperands) -> list[Buffer]:
    """Return ``count`` accumulators, int32x4; sums that widen at once take ``together`` more."""
    acc = zeros(count, "int32", 4)
    with T.grid(*runs.steps.over(runs.int16_run)) as number:
        first = _first(runs.int16_run, number)
        if runs.int16_run.total == 1:
            _add_widened(runs, acc, together, products(first))
        else:
            _add_int16_run(runs, acc, products, first)
    return acc


def _add_widened(
    runs: NeonRuns, acc: list[Buffer], together: int, products: list[OperandPair]
) -> None:
    """Add the products of one step, two in int16 and then at once in int32."""
    for first in range(0, len(acc), together):
        some = slice(first, first + together)
        short = zeros(len(acc[some]), "int16", 8)
        _add_halves(short, products[some])
        _widen(runs, acc[some], short, 4)


def _add_int16_run(
    runs: NeonRuns, acc: list[Buffer], products: StepOperands, first: StepIndex
) -> None:
    """Add the products of one run of int16 sums."""
    short = zeros(len(acc), "int16", 8)
    with T.grid(*runs.int16_run.over(runs.int8_run or Steps(1, 1, 1))) as inner:
        if runs.int8_run is None:
            _add_halves(short, products(_plus(first, inner)))
        else:
            _add_int8_run(runs, short, products, _plus(first, _first(runs.int8_run, inner)))
    _widen(runs, acc, short, 4)


def _add_halves(acc: list[Buffer], products: list[OperandPair]) -> None:
    """Add the lower products of all accumulators, then the upper ones: no sum waits for itself."""
    for half in (neon.lower, neon.upper):
        for slot, (x, w) in zip(acc, products, strict=True):
            assign(slot, slot[0] + neon.multiplied(half(x), half(w)))


def _add_int8_run(
    runs: NeonRuns, acc: list[Buffer], products: StepOperands, first: StepIndex
) -> None:
    """Add the products of one run of int8 sums to int16 ones."""
    assert runs.int8_run is not None
    short = zeros(len(acc), "int8", 16)
    with T.grid(*runs.int8_run) as step:
        for slot, (x, w) in zip(short, products(_plus(first, step)), strict=True):
            assign(slot, slot[0] + x * w)
    _widen(runs, acc, short, 8)


def _widen(runs: NeonRuns, acc: list[Buffer], short: list[Buffer], lanes: int) -> None:
    for slot, narrow in zip(acc, short, strict=True):
        assign(slot, neon.pairs_added(runs.bits, slot[0], narrow[0], lanes))


def _first(run: Steps, number: StepIndex) -> StepIndex:
    """Return the first step of a run."""
    row, column, step = (n * size for n, size in zip(number, run, strict=True))
    return row, column, step


def _plus(a: StepIndex, b: StepIndex) -> StepIndex:
    row, column, step = (m + n for m, n in zip(a, b, strict=True))
    return row, column, step
