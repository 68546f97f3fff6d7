"""What a kernel family is given and what it returns, on any kind of target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar

from numpy.typing import NDArray
from tvm.tirx import PrimFunc

from gmpq.backends.tvm.kernels.layout import Layout
from gmpq.backends.tvm.target import AnyTarget
from gmpq.ir import Conv2d, Linear, Node, QParams, Value

Array: TypeAlias = NDArray[Any]
T_co = TypeVar("T_co", bound=AnyTarget, covariant=True)  # the kind of target
T_contra = TypeVar("T_contra", bound=AnyTarget, contravariant=True)


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
class Site(Generic[T_co]):
    """A node with the tensors around it, on a target.

    With an ``addition`` the node's own ``output`` is never stored, only the sum; and that or the
    output only if ``stores_result``, besides requantized ``copies``.
    """

    node: Node
    inputs: tuple[Tensor, ...]
    output: Tensor
    target: T_co
    addition: Addition | None = None
    copies: tuple[Tensor, ...] = ()
    stores_result: bool = True
    weights_bytes: int = 0  # of all layers of the network, a byte each

    @property
    def weights_stay_in_llc(self) -> bool:
        """Whether the last-level cache keeps the constants of all layers from run to run."""
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
        """Return the call of ``function`` on this site's tensors, and constants of any shape."""
        inputs, outputs = (
            tuple(tensor.value.name for tensor in side) for side in (self.operands, self.results)
        )
        return Call(function, inputs, constants, outputs)


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A C function with its constants; its arguments are inputs, constants, outputs.

    It sees a value from ``skipped`` bytes after the beginning of its memory on.
    """

    function: PrimFunc
    inputs: tuple[str, ...]
    constants: tuple[Array, ...]
    outputs: tuple[str, ...]
    skipped: Mapping[str, int] = field(default_factory=dict)


def never(_site: Site[AnyTarget]) -> None:
    """Refuse no site."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One configuration of a kernel at a site: its name, predicted cost, the call, the work.

    Costs are times in a unit of the families' own; only costs on one target are compared. Those of
    CPUs are cycles of one core.
    """

    configuration: str
    cost: float  # on one thread
    build: Callable[[], Call]
    work: Work | None = None  # of a kernel that multiplies
    tasks: int | None = None  # work items that threads share; None where they are many
    weight_bytes: int | None = None  # of all weights in memory; None where each takes a byte

    def cost_on(self, threads: int) -> float:
        """Return the predicted cost of the busiest of ``threads`` threads."""
        if self.tasks is None:
            return self.cost / threads
        return self.cost * -(-self.tasks // threads) / self.tasks


@dataclass(frozen=True, slots=True)
class Family(Generic[T_contra]):
    """A way to compute some kinds of nodes on a kind of target.

    ``refuses`` returns why the family cannot compute a site with such a node, or None; then
    ``candidates`` returns the configurations worth trying, the best predicted one first.
    """

    name: str
    nodes: tuple[type[Node], ...]
    candidates: Callable[[Site[T_contra]], tuple[Candidate, ...]]
    refuses: Callable[[Site[T_contra]], str | None] = never


@dataclass(frozen=True, slots=True)
class RowMoves:
    """Calls between blocks of rows; rows are counted from the beginning of a value's memory.

    Args:
        to_start: returns the call that copies ``count`` rows from row ``first`` to row 0.
        fill: returns the call that fills ``count`` rows from row ``first`` with the zero point.
    """

    to_start: Callable[[Tensor, int, int], Call]
    fill: Callable[[Tensor, int, int], Call]


@dataclass(frozen=True, slots=True)
class Device(Generic[T_contra]):
    """What the planner asks of a kind of target.

    Args:
        families: of kernels; of equal costs the first one is taken.
        halo: returns the call that fills a value's halo with its zero point, or None without one.
        in_order: returns the call that follows a layer with a float32 output: it copies what the
            layer has left, channels last, into the logical order.
        copies_exactly: returns whether the kernel of a convolution can store codes of the first
            parameters as codes of the second too, each as a requantization defines it.
        rows: moves rows of values; None where layers do not run in turn over blocks of rows.
    """

    families: tuple[Family[T_contra], ...]
    halo: Callable[[Tensor], Call | None]
    in_order: Callable[[Site[T_contra]], Call]
    copies_exactly: Callable[[QParams, QParams], bool]
    rows: RowMoves | None = None


def only(
    build: Callable[[Site[T_co]], Call],
) -> Callable[[Site[T_co]], tuple[Candidate, ...]]:
    """Return the candidates of a family that has one configuration and no competitor."""
    return lambda site: (Candidate("", 0.0, partial(build, site)),)
