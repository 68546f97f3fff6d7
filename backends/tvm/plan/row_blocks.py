"""Two layers that run in turn over blocks of rows, so that the value between them stays in L2.

    conv 1x1 -> v;  depthwise(v) -> y      becomes, for each block of rows of y,
    conv 1x1 -> rows of v;  depthwise(rows of v) -> rows of y

An expansion makes a value several times wider than what it reads. Where that value takes more than
half of L2, its stores wait for the lines that they overwrite, and the depthwise convolution waits
for it. Here the memory of v holds only the rows that one block of y reads, with the halo around
them. With windows of k rows at stride s, a block of R rows of y reads n + c rows, n = R * s and
c = k - s: row m of the memory is row ``block * n - padding + m`` of v. The last c rows of a block
are the first ones of the next: they are moved, and every row of v is computed once.

The kernels are those of the two layers, of images with fewer rows: nothing is to be proved anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar

import numpy as np

from gmpq.backends.tvm.kernels.base import (
    Array,
    Call,
    Candidate,
    Device,
    RowMoves,
    Site,
    Tensor,
    Work,
)
from gmpq.backends.tvm.kernels.layout import Layout
from gmpq.backends.tvm.plan.step import Step
from gmpq.backends.tvm.target import AnyTarget
from gmpq.ir import Conv2d, IntGraph

LEAST_ROWS = 4  # of a block, or calls take longer than what they save
LEAST_BLOCKS = 4  # two and three gained less, measured on a Xeon of 2 MB L2
SHARE = 3  # rows of a block take at most one third of L2: x and y are there too
T = TypeVar("T", bound=AnyTarget)
Chosen: TypeAlias = tuple[str, str]  # family and configuration of a layer's kernel


@dataclass(frozen=True, slots=True)
class RowBlocks:
    """How the rows of two layers are divided into blocks."""

    count: int
    rows: int  # of y in a block
    advance: int  # rows of v from the first one of a block to that of the next
    carried: int  # rows of v that two blocks read
    padding: int  # rows above v
    height: int  # of v

    @property
    def held(self) -> int:
        """Rows of v in memory."""
        return self.advance + self.carried

    def made(self, block: int) -> range:
        """Return the rows of v that are computed for a block."""
        end = (block + 1) * self.advance - self.padding + self.carried
        first = end - self.advance if block else 0
        return range(first, min(end, self.height))

    def place(self, block: int) -> int:
        """Return the row of the memory that holds the first of these."""
        return self.carried if block else self.padding


@dataclass(frozen=True, slots=True)
class Pair:
    """A layer whose rows only ``reader``, a depthwise convolution, reads, and their blocks."""

    writer: str
    reader: str
    blocks: RowBlocks


def pairs(
    graph: IntGraph, sites: Sequence[Site[T]], device: Device[T], threads: int = 1
) -> list[Pair]:
    """Return the layers that run in turn on ``threads`` threads, which have an L2 cache each."""
    if device.rows is None:
        return []
    writers = {site.output.value.name: site for site in sites if _expands(site)}
    found = []
    for site in sites:
        writer = writers.get(site.node.inputs[0]) if _is_depthwise(site) else None
        if writer is None or not _private(graph, writer.output.value.name):
            continue
        if (blocks := _divided(site, threads)) is not None:
            found.append(Pair(writer.node.name, site.node.name, blocks))
    return found


def _expands(site: Site[T]) -> bool:
    """Return whether a layer is a plain 1x1 convolution, of which each row can stand alone."""
    node = site.node
    if not isinstance(node, Conv2d) or node.groups != 1 or site.output.value.q is None:
        return False
    window = node.window
    plain = window.kernel == (1, 1) and window.stride == (1, 1) and not any(window.padding)
    return plain and site.addition is None and not site.copies


def _is_depthwise(site: Site[T]) -> bool:
    """Return whether a layer is a depthwise convolution to codes."""
    node = site.node
    if not isinstance(node, Conv2d) or node.groups != site.inputs[0].codes.channels:
        return False
    return node.groups > 1 and site.output.value.q is not None


def _private(graph: IntGraph, value: str) -> bool:
    return len(graph.consumers(value)) == 1 and value not in graph.outputs


def _divided(reader: Site[T], threads: int) -> RowBlocks | None:
    """Return the fewest blocks whose rows fit their share of L2; None where v stays there whole."""
    node, v, y = reader.node, reader.inputs[0].codes, reader.output.codes
    near = reader.target.value_cache_bytes
    assert isinstance(node, Conv2d)
    if near is None or 2 * v.size_bytes <= near * threads or v.batch != 1:
        return None
    window = node.window
    stride, carried = window.stride[0], window.reach[0] - window.stride[0]
    for count in range(LEAST_BLOCKS, y.height // LEAST_ROWS + 1):
        if y.height % count == 0:
            rows = y.height // count
            blocks = RowBlocks(count, rows, rows * stride, carried, window.padding.top, v.height)
            if _is_regular(blocks) and SHARE * blocks.held * v.row <= near * threads:
                return blocks
    return None


def _is_regular(blocks: RowBlocks) -> bool:
    """Return whether every block computes rows, and rows that are moved do not overlap."""
    computes = all(len(blocks.made(block)) > 0 for block in range(blocks.count))
    return computes and 0 <= blocks.carried <= blocks.advance and blocks.padding < blocks.held


def run_in_turn(
    device: Device[T],
    sites: Sequence[Site[T]],
    steps: list[Step],
    tensors: dict[str, Tensor],
    pair: Pair,
) -> None:
    """Move the calls of a pair's first step to its second, and keep some rows between them."""
    first, second = (
        next(n for n, step in enumerate(steps) if step.node == node)
        for node in (pair.writer, pair.reader)
    )
    kernels = [(steps[n].kernel, steps[n].configuration) for n in (first, second)]
    writer, reader = sites[first], sites[second]
    calls = _calls_in_turn(device, (writer, reader), (kernels[0], kernels[1]), pair.blocks)
    if calls is not None:
        steps[first], steps[second] = _in_turn(steps[first], steps[second], calls, pair.blocks)
        value = writer.output
        tensors[value.value.name] = _held_rows(value, pair.blocks)


def _in_turn(
    writer: Step, reader: Step, calls: tuple[Call, ...], blocks: RowBlocks
) -> tuple[Step, Step]:
    """Return the steps of a pair: the second one has the calls, and the work of both."""
    assert writer.work is not None
    assert reader.work is not None
    macs = writer.work.executed_macs + reader.work.executed_macs
    same = writer.work.instruction == reader.work.instruction
    return (
        replace(
            writer,
            outputs=(),
            configuration=f"{writer.configuration}, in {blocks.count} blocks of rows",
            calls=(),
            cost=0.0,
            work=None,
        ),
        replace(
            reader,
            configuration=f"{reader.configuration}, {blocks.rows} rows after {writer.node}",
            calls=calls,
            cost=writer.cost + reader.cost,
            work=Work(macs, reader.work.instruction if same else ""),
        ),
    )


def _held_rows(v: Tensor, blocks: RowBlocks) -> Tensor:
    """Return the rows of v that are in memory, the padding of the first block as their halo."""
    halo = v.codes.halo._replace(top=blocks.padding, bottom=0)
    return replace(v, layout=replace(v.codes, height=blocks.held - blocks.padding, halo=halo))


def _calls_in_turn(
    device: Device[T],
    sites: tuple[Site[T], Site[T]],
    kernels: tuple[Chosen, Chosen],
    blocks: RowBlocks,
) -> tuple[Call, ...] | None:
    """Return the calls that compute both layers; None where a kernel has no form for fewer rows."""
    writer, reader = sites
    assert device.rows is not None
    held, y = _held_rows(writer.output, blocks), reader.output
    write = _writer(device, writer, kernels[0], blocks)
    site = replace(reader, inputs=(held,), output=_of_rows(y, blocks.rows))
    read = _call(device, site, kernels[1])
    if read is None or write is None:
        return None
    calls = [call for call in (device.halo(held), device.halo(y)) if call is not None]
    for block in range(blocks.count):
        calls += [*_moves(device.rows, held, blocks, block), write(block)]
        first = y.codes.halo.top + block * blocks.rows
        calls.append(replace(read, skipped={y.value.name: first * y.codes.row}))
    return tuple(calls)


def _moves(rows: RowMoves, held: Tensor, blocks: RowBlocks, block: int) -> list[Call]:
    """Return the calls that put in place what a block reads and does not compute."""
    found = []
    if block and blocks.carried:
        found.append(rows.to_start(held, blocks.advance, blocks.carried))
    end = blocks.place(block) + len(blocks.made(block))
    if end < blocks.held:
        found.append(rows.fill(held, end, blocks.held - end))
    return found


def _writer(
    device: Device[T], site: Site[T], kernel: Chosen, blocks: RowBlocks
) -> Callable[[int], Call] | None:
    """Return the call of the first layer for the rows of each block; equal weights are shared."""
    (x,), v = site.inputs, site.output
    built: dict[int, Call] = {}
    for block in range(blocks.count):
        height = len(blocks.made(block))
        if height not in built:
            part = replace(site, inputs=(_of_rows(x, height),), output=_of_rows(v, height))
            call = _call(device, part, kernel)
            if call is None:
                return None
            built[height] = _sharing(call, [each.constants for each in built.values()])

    def write(block: int) -> Call:
        made = blocks.made(block)
        skipped = {
            x.value.name: (x.codes.halo.top + made.start) * x.codes.row,
            v.value.name: blocks.place(block) * v.codes.row,
        }
        return replace(built[len(made)], skipped=skipped)

    return write


def _sharing(call: Call, known: Sequence[tuple[Array, ...]]) -> Call:
    """Return ``call`` with constants of ``known`` calls where they are equal: stored once."""
    arrays = [array for constants in known for array in constants]
    constants = (
        next((each for each in arrays if _equal(each, array)), array) for array in call.constants
    )
    return replace(call, constants=tuple(constants))


def _equal(one: Array, other: Array) -> bool:
    return one.dtype == other.dtype and np.array_equal(one, other)


def _of_rows(tensor: Tensor, height: int) -> Tensor:
    """Return ``height`` rows of a value, of which the first begins the memory."""
    layout: Layout = tensor.codes
    halo = layout.halo._replace(top=0, bottom=0)
    return replace(tensor, layout=replace(layout, height=height, halo=halo))


def _call(device: Device[T], site: Site[T], kernel: Chosen) -> Call | None:
    """Return the call of a layer's kernel, or of the family's best where it needs more rows."""
    name, configuration = kernel
    (family,) = (family for family in device.families if family.name == name)
    if family.refuses(site) is not None:
        return None
    found: Mapping[str, Candidate] = {c.configuration: c for c in family.candidates(site)}
    if not found:
        return None
    best = min(found.values(), key=lambda candidate: candidate.cost)
    return found.get(configuration, best).build()
