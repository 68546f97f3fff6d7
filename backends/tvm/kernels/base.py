"""What a kernel family is given and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from operator import add
from typing import Any, TypeAlias

from numpy.typing import NDArray
from tvm.tirx import PrimFunc

from gmpq.backends.tvm.kernels.layout import Layout
from gmpq.backends.tvm.target.cpu import Target
from gmpq.ir import Conv2d, Linear, Node, QParams, Value

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Tensor:
    """A value and where its elements lie; without a layout, densely in their logical order."""

    value: Value
    layout: Layout | None

    @property
    def q(self) -> QParams:
        """Parameters of a value of codes."""
        assert self.value.q is not None, f"{self.value.name} must hold codes"
        return self.value.q

    @property
    def codes(self) -> Layout:
        """Layout of a value of codes, or of what a layer writes."""
        assert self.layout is not None, f"{self.value.name} must have a layout"
        return self.layout


@dataclass(frozen=True, slots=True)
class Addition:
    """An addition that follows a layer in the same kernel: its other term, and the sum."""

    term: Tensor
    total: Tensor


@dataclass(frozen=True, slots=True)
class Work:
    """What a kernel multiplies in one run of the network, and with what.

    Counted is what the algorithm needs: pixels that tiles compute twice and padding channels are
    not in it.
    """

    executed_macs: int
    instruction: str  # the sequence that adds a vector of them; empty where LLVM finds its own


@dataclass(frozen=True, slots=True)
class Site:
    """A node with the tensors around it, on a target.

    With an ``addition`` the node's own ``output`` is never stored, only the sum; and that or the
    output only if ``stores_result``, beside requantized ``copies``.
    """

    node: Node
    inputs: tuple[Tensor, ...]
    output: Tensor
    target: Target
    addition: Addition | None = None
    copies: tuple[Tensor, ...] = ()
    stores_result: bool = True
    weights_bytes: int = 0  # of all layers of the network, a byte each

    @property
    def weights_stay_in_llc(self) -> bool:
        """Tell whether the last cache keeps the constants of all layers from run to run."""
        return self.weights_bytes <= self.target.llc_share_bytes

    @property
    def operands(self) -> tuple[Tensor, ...]:
        """The tensors that the kernel reads."""
        return (*self.inputs, *((self.addition.term,) if self.addition else ()))

    @property
    def result(self) -> Tensor:
        """The tensor of which copies are made."""
        return self.addition.total if self.addition else self.output

    @property
    def results(self) -> tuple[Tensor, ...]:
        """The tensors that the kernel writes."""
        return (*((self.result,) if self.stores_result else ()), *self.copies)

    def work(self, instruction: str, times: float = 1) -> Work:
        """Return the work of multiplying every code by every weight of its window ``times``."""
        node, y = self.node, self.output.codes
        assert isinstance(node, Conv2d | Linear)
        macs = node.weight.codes.size * y.batch * y.height * y.width
        return Work(round(times * macs), instruction)

    def call(self, function: PrimFunc, constants: tuple[Array, ...] = ()) -> Call:
        """Return the call of ``function`` on the tensors of this site."""
        inputs, outputs = (
            tuple(tensor.value.name for tensor in side) for side in (self.operands, self.results)
        )
        return Call(function, inputs, constants, outputs)


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A C function with its constants; its arguments are inputs, constants, outputs."""

    function: PrimFunc
    inputs: tuple[str, ...]
    constants: tuple[Array, ...]
    outputs: tuple[str, ...]


LLC_BYTES, DRAM_BYTES = 16, 4  # that a core reads per cycle from the last cache, and from memory


def streamed_cycles(site: Site, constants_bytes: int) -> float:
    """Return the cycles to read a layer's constants, which other layers have driven from caches."""
    kept = site.weights_stay_in_llc and constants_bytes <= site.target.llc_share_bytes
    return constants_bytes / (LLC_BYTES if kept else DRAM_BYTES)


def never(_site: Site) -> None:
    """Refuse no site."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One configuration of a kernel at a site: its name, predicted cycles, the call, the work."""

    configuration: str
    cycles: float
    build: Callable[[], Call]
    work: Work | None = None  # of a kernel that multiplies
    pieces: int | None = None  # that threads share whole; None where they are many
    weight_bytes: int | None = None  # of all weights in memory; None where each takes a byte

    def cycles_on(self, threads: int) -> float:
        """Return predicted cycles of the busiest of ``threads`` threads."""
        if self.pieces is None:
            return self.cycles / threads
        return self.cycles * -(-self.pieces // threads) / self.pieces


def arriving(site: Site, found: list[Candidate], weight_bytes: int) -> tuple[Candidate, ...]:
    """Return candidates with weights of so many bytes each, and the cycles in which they arrive.

    A fully connected layer uses none of them again, and works on while they do.
    """
    assert isinstance(site.node, Conv2d | Linear)
    total = site.node.weight.codes.size * weight_bytes
    arrival = streamed_cycles(site, total)
    together = max if isinstance(site.node, Linear) else add
    return tuple(
        replace(each, cycles=together(each.cycles, arrival), weight_bytes=total) for each in found
    )


@dataclass(frozen=True, slots=True)
class Family:
    """A way to compute some kinds of nodes.

    ``refuses`` returns why the family cannot compute a site with such a node, or None; then
    ``candidates`` returns the configurations worth trying, the best predicted one first.
    """

    name: str
    nodes: tuple[type[Node], ...]
    candidates: Callable[[Site], tuple[Candidate, ...]]
    refuses: Callable[[Site], str | None] = never


def only(build: Callable[[Site], Call]) -> Callable[[Site], tuple[Candidate, ...]]:
    """Return the candidates of a family that has one configuration and no competitor."""
    return lambda site: (Candidate("", 0.0, partial(build, site)),)
