"""Direct convolution of many bits without VNNI: input rows are widened to int16 once, then reused.

Where a pair of products u8 * s8 does not fit int16, vpmaddwd multiplies int16 codes and weights.
``direct`` widens the codes in registers for every tile. Here they are widened once per stage
(``direct_staged``): a step is a broadcast load, a multiplication and an addition.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from tvm.script.ir_builder import tirx as T

from gmpq.backends.tvm.dot import Wide, Words, best_dot, multiplied_lanes
from gmpq.backends.tvm.kernels import direct_staged
from gmpq.backends.tvm.kernels.base import Call, Candidate, Family, Site
from gmpq.backends.tvm.kernels.direct import accumulate_tile, constants
from gmpq.backends.tvm.kernels.direct_staged import Form, Stage
from gmpq.backends.tvm.kernels.direct_tile import Shape, best_tiles, shape_of
from gmpq.backends.tvm.script import Buffer, Expr, cast, store, vector
from gmpq.ir import Conv2d

MOST_TILES = 6


def refuses(site: Site) -> str | None:
    """Return why the site is not for int16 codes."""
    node, q = site.node, site.inputs[0].q
    assert isinstance(node, Conv2d)
    if not isinstance(best_dot(site.target, max(q.high, q.zero_point), node.weight.codes), Wide):
        return "bytes multiply exactly, or there is no vpmaddwd"
    if node.groups > 1:
        return "needs one group"
    return direct_staged.refuses(_shape(site), WORDS)


def _dot(site: Site) -> Words:
    lanes = multiplied_lanes(site.target)
    assert lanes is not None
    return Words(lanes)


def _shape(site: Site) -> Shape:
    dot = _dot(site)
    shape = shape_of(site, dot)
    return replace(shape, depth=-(-shape.x.channels // dot.group), group=dot.group)


def candidates(site: Site) -> tuple[Candidate, ...]:
    """Return the tiles of the fewest predicted cycles, each with its best number of rows."""
    shape, dot = _shape(site), _dot(site)
    found = []
    for tile, direct in best_tiles(shape, dot, site.target, MOST_TILES):
        for stage in direct_staged.stages(shape, tile, WORDS):
            total = direct_staged.cycles(site, shape, stage, WORDS, direct)
            built = partial(build, site, shape, dot, stage)
            found.append(Candidate(str(stage), total, built, site.work(dot.instruction)))
    found.sort(key=lambda candidate: candidate.cycles)
    return tuple(found[:MOST_TILES])


FAMILY = Family("direct_words", (Conv2d,), candidates, refuses)


def build(site: Site, shape: Shape, dot: Words, stage: Stage) -> Call:
    """Return the call of one stage."""
    function = direct_staged.kernel(shape, dot, stage, WORDS, site.finish, accumulate_tile)
    return site.call(function, constants(site, shape, dot, stage.tile))


def _widen(_stage: Stage, memory: Buffer, place: Expr, codes: Expr, lanes: int) -> None:
    """Write codes as int16."""
    pairs = T.reinterpret(vector("int32", lanes // 2), cast("int16", lanes, codes))
    store(memory, T.floordiv(place, 2), pairs, lanes // 2)


WORDS = Form(2, _widen)
