"""Layers that run in turn over blocks of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain as joined
from pathlib import Path

import numpy as np
import pytest

from gmpq.backends import reference
from gmpq.backends.tvm.codegen.build import assemble
from gmpq.backends.tvm.kernels.base import Site
from gmpq.backends.tvm.kernels.layout import layouts
from gmpq.backends.tvm.plan.plan import Choice, Chooser, Plan, PlanOptions, Verdict, fuses, plan
from gmpq.backends.tvm.plan.row_blocks import RowBlocks
from gmpq.backends.tvm.target import Target, find
from gmpq.backends.tvm.target.cpu import RULES, CpuTarget
from gmpq.ir import Conv2d, IntGraph, Padding, QParams, Window
from gmpq.runtime import Network
from tests.support.builders import chain, weight
from tests.support.single_layers import BASELINE, V3, WITHOUT_VNNI

POINT = Window((1, 1))
THREE = Window((3, 3), padding=Padding(1, 1, 1, 1))
VNNI = find("x86-64-v4-vnni")
TARGETS = [t for t in (VNNI, V3, find("native"), WITHOUT_VNNI, BASELINE) if t.runs_here()]
WINDOWS = (
    THREE,
    Window((3, 3), (2, 2), Padding(1, 1, 1, 1)),
    Window((3, 3), (2, 2), Padding(0, 0, 1, 1)),
    Window((5, 5), padding=Padding(2, 2, 2, 2)),
    Window((5, 3), (2, 1), Padding(2, 0, 1, 2)),
    Window((5, 5), (1, 1), Padding(4, 4, 4, 4)),  # a block of padding above and below
    Window((3, 3), (1, 1), Padding(2, 2, 2, 2), (2, 2)),
    Window((2, 3), (2, 1), Padding(0, 1, 0, 1)),  # no row is read twice
    Window((3, 1), (3, 1), Padding(1, 0, 2, 0)),
)
Sizes = tuple[int, int, int, int, int]  # inputs, channels, rows, columns, batch


def expansion(
    window: Window,
    sizes: Sizes = (5, 40, 20, 9, 1),
    bits: tuple[int, int, int] = (8, 8, 8),
    seed: int = 0,
) -> IntGraph:
    """Return a 1x1 convolution and a depthwise one; ``sizes`` has the rows of the latter's output.

    ``bits`` are those of the input, of all weights, and of the value between.
    """
    inputs, channels, rows, columns, batch = sizes
    rng = np.random.default_rng(seed)
    x, v, y = (
        QParams.full(float(rng.uniform(0.1, 2)), int(rng.integers(0, 1 << n)), n)
        for n in (bits[0], bits[2], 8)
    )
    extra = int(rng.integers(0, window.stride[0]))
    height = (rows - 1) * window.stride[0] + window.reach[0] - sum(window.padding[0::2]) + extra
    wide = window.output_size(height, columns)
    assert wide[0] == rows
    first = Conv2d(
        "expand", ("",), "", weight((channels, inputs, 1, 1), bits[1], x, v, seed), POINT
    )
    taps = weight((channels, 1, *window.kernel), bits[1], v, y, seed + 1)
    second = Conv2d("depthwise", ("",), "", taps, window, channels)
    shape = (batch, inputs, height, columns)
    return chain(
        [
            (first, (batch, channels, height, columns), v),
            (second, (batch, channels, *wide), y),
        ],
        shape,
        x,
    )


def candidate(number: int) -> Chooser:
    """Return a chooser of some candidate of every node."""

    def choose(_site: Site[Target], choices: Sequence[Choice]) -> Verdict:
        return Verdict(choices[number % len(choices)])

    return choose


def too_small(graph: IntGraph) -> int:
    """Return the most bytes of L2 of which the value between takes more than half."""
    return 2 * layouts(graph, RULES)["expand"].size_bytes - 1


def runs_in_turn(planned: Plan) -> bool:
    """Return whether the step of the first layer is left to the second."""
    return next(not step.calls for step in planned.steps if step.node == "expand")


def check(graph: IntGraph, target: Target, planned: Plan, folder: Path, threads: int = 1) -> None:
    """Assert that a program equals the reference, step by step and as a whole."""
    program = assemble(graph, planned, target, folder).program
    rng = np.random.default_rng(0)
    q, shape = graph.values["codes"].q, graph.values["x"].shape
    assert q is not None
    with Network(folder, program) as network:
        network.set_threads(threads)
        for codes in (rng.integers(0, q.maximum + 1, shape), rng.choice([0, q.maximum], shape)):
            image = ((codes - q.zero_point) * q.scale).astype(np.float32)
            expected = reference.run(graph, {"x": image})
            for name, found in network.trace(image):
                np.testing.assert_array_equal(expected[name], found, err_msg=name)
            np.testing.assert_array_equal(expected["y"], network.run(image))


# --- which rows ----------------------------------------------------------------------------------


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(("count", "rows"), [(2, 4), (4, 5), (7, 8)])
def test_every_row_is_computed_once_and_lies_where_it_is_read(
    window: Window, count: int, rows: int
) -> None:
    stride, reach, padding = window.stride[0], window.reach[0], window.padding
    height = (rows * count - 1) * stride + reach - padding.top - padding.bottom
    blocks = RowBlocks(count, rows, rows * stride, reach - stride, padding.top, height)
    assert list(joined(*(blocks.made(block) for block in range(count)))) == list(range(height))
    memory: list[int | None] = [None] * blocks.held
    for block in range(count):
        if block:
            memory = [*memory[blocks.advance :], *[None] * blocks.advance]
        for number, row in enumerate(blocks.made(block)):
            memory[blocks.place(block) + number] = row
        first = block * rows * stride - padding.top
        wanted = [n if 0 <= n < height else None for n in range(first, first + blocks.held)]
        assert memory == wanted


# --- which layers --------------------------------------------------------------------------------


def planned_on(
    graph: IntGraph, l2_bytes: int | None = None, options: PlanOptions | None = None
) -> Plan:
    """Return the plan of ``graph`` with AVX-512 VNNI and a small cache."""
    target = replace(VNNI, l2_bytes=l2_bytes or too_small(graph))
    return plan(graph, target, options=options or PlanOptions())


def test_a_value_that_exceeds_half_of_the_cache_is_never_whole() -> None:
    graph = expansion(THREE)
    most = too_small(graph)
    assert not runs_in_turn(planned_on(graph, most + 1))
    planned = planned_on(graph, most)
    whole = planned_on(graph, options=PlanOptions(fuse=False))
    assert runs_in_turn(planned)
    assert planned.memory.size_bytes < whole.memory.size_bytes - most // 4
    assert fuses(graph, replace(VNNI, l2_bytes=most))
    assert not fuses(graph, VNNI)


def test_the_second_step_has_the_calls_and_the_work_of_both() -> None:
    graph = expansion(THREE)
    alone = {step.node: step for step in planned_on(graph, 1 << 20).steps}
    steps = {step.node: step for step in planned_on(graph).steps}
    first, second = steps["expand"], steps["depthwise"]
    works = [alone[name].work for name in ("expand", "depthwise")]
    assert first.outputs == ()
    assert first.configuration.endswith(", in 4 blocks of rows")
    assert second.configuration.endswith(", 5 rows after expand")
    assert second.work is not None
    assert second.work.executed_macs == sum(work.executed_macs for work in works if work)
    assert second.cost == alone["expand"].cost + alone["depthwise"].cost


def test_blocks_share_their_constants() -> None:
    (calls,) = (step.calls for step in planned_on(expansion(THREE)).steps if len(step.calls) > 9)
    written = [call for call in calls if call.inputs == ("codes",)]
    assert len(written) == 4
    assert len({id(call.constants[0]) for call in written}) == 1


def test_layers_may_be_kept_apart() -> None:
    graph = expansion(THREE)
    assert not runs_in_turn(planned_on(graph, options=PlanOptions(in_turn=False)))
    assert not runs_in_turn(planned_on(graph, options=PlanOptions(fuse=False)))
    assert not runs_in_turn(planned_on(graph, options=PlanOptions(threads=8)))  # have 8 caches


def test_other_targets_keep_the_value_whole() -> None:
    graph = expansion(THREE)
    for name in ("x86-64-v3", "arm64-dotprod"):
        assert not runs_in_turn(plan(graph, replace(find(name), l2_bytes=too_small(graph))))


@pytest.mark.parametrize(
    "graph",
    [
        pytest.param(expansion(THREE, (5, 40, 20, 9, 2)), id="two-images"),
        pytest.param(expansion(THREE, (5, 40, 23, 9, 1)), id="a-prime-number-of-rows"),
        pytest.param(expansion(Window((1, 1), (2, 2))), id="rows-that-nobody-reads"),
        pytest.param(
            replace(expansion(THREE), outputs=("y", "expand")), id="the-value-is-an-output"
        ),
    ],
)
def test_what_cannot_be_divided_stays_whole(graph: IntGraph) -> None:
    assert not runs_in_turn(planned_on(graph))


# --- programs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(10))
@pytest.mark.parametrize("window", WINDOWS)
def test_programs_equal_the_reference(
    window: Window, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kernels of every processor do so, whichever ones run in turn."""
    monkeypatch.setattr(CpuTarget, "value_cache_bytes", property(lambda target: target.l2_bytes))
    rng = np.random.default_rng(number)
    rows = int(rng.integers(4, 7)) * int(rng.integers(4, 6))
    inputs, channels, columns = (int(n) for n in rng.integers((1, 17, 5), (40, 80, 20)))
    bits = tuple(int(n) for n in rng.integers(1, 9, 3))
    sizes = (inputs, channels, rows, columns, 1)
    graph = expansion(window, sizes, (bits[0], bits[1], bits[2]), number)
    target = replace(TARGETS[number % len(TARGETS)], l2_bytes=too_small(graph))
    planned = plan(graph, target, candidate(number))
    assert runs_in_turn(planned)
    check(graph, target, planned, tmp_path)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_divide_the_rows_of_a_block(
    threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CpuTarget, "value_cache_bytes", property(lambda target: target.l2_bytes))
    graph = expansion(THREE)
    target = replace(V3, l2_bytes=too_small(graph))
    check(graph, target, plan(graph, target), tmp_path, threads)
