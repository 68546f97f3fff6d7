"""Layers of several shapes: what each kernel family is predicted to take, and which is taken."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from gmpq.backends.tvm.target import find_cpu
from predicted import mca
from predicted.layers import W1A1, W2A2, W2A3, W3A3, Bits, of_family
from versus.layer import Layer

FAMILIES = ("direct", "winograd", "bitserial")
HEADER = ("processor", "bits", "layer", *FAMILIES, "planner takes")
LAYERS = (
    Layer(56, 64, 64, 3, 1, 1),
    Layer(28, 128, 256, 3, 2, 1),
    Layer(14, 256, 1024, 1, 1, 1),
    Layer(7, 512, 512, 3, 1, 1),
)
TARGETS = {"cortex-a53": "rpi3", "cortex-a72": "rpi4", "neoverse-n1": "rpi5"}
BITS = (W1A1, W2A2)


@dataclass(frozen=True, slots=True)
class Case:
    """A layer at some bits on a processor."""

    processor: str
    bits: Bits
    layer: Layer


CASES = (
    *(Case(*each) for each in product(TARGETS, BITS, LAYERS)),
    *(Case("cortex-a72", *each) for each in product((W2A3, W3A3), LAYERS)),
)


def row(case: Case) -> tuple[str, ...]:
    """Return the cells of ``HEADER``: MACs a cycle, by LLVM's model and by the planner."""
    found = dict(_rates(case))
    cells = (_cell(found.get(name)) for name in FAMILIES)
    chosen = max(found, key=lambda name: found[name][1])
    return (case.processor, str(case.bits), str(case.layer), *cells, chosen)


def _cell(rates: tuple[float, float] | None) -> str:
    return "-" if rates is None else f"{rates[0]:.1f} ({rates[1]:.1f})"


def _rates(case: Case) -> Iterator[tuple[str, tuple[float, float]]]:
    """Yield families with what both predict."""
    target = TARGETS[case.processor]
    dots = "dotprod" in find_cpu(target).features
    for family in FAMILIES:
        name = "direct_neon" if family == "direct" and not dots else family
        found = of_family(case.layer, case.bits, target, name)
        if found is not None:
            modelled = mca.cycles(found.blocks, case.processor)
            yield family, (case.layer.macs / modelled, case.layer.macs / found.cycles)
