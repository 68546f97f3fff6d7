"""What is searched: the layers of a network, and the bits that each may have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gmpq.errors import SearchError, closest
from gmpq.ir import FloatGraph
from gmpq.passes import cost
from gmpq.policy import LayerBits, check_bits
from gmpq.search.ilp.solver import Assignment

BITS = (2, 3, 4, 5, 6)  # the candidates of LIMPQ
WIDE = LayerBits(8, 8)  # of the first and the last layer, as all papers keep them


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer and what its cost comes from."""

    name: str
    macs: int
    weights: int
    kept: LayerBits | None = None  # bits that the search does not change; None: it is searched
    auxiliary: bool = False  # no policy names it


@dataclass(frozen=True, slots=True)
class Space:
    """All layers in execution order; each searched one gets one pair of the bits."""

    layers: tuple[Layer, ...]
    weight_bits: tuple[int, ...] = BITS
    input_bits: tuple[int, ...] = BITS

    def __post_init__(self) -> None:
        """Refuse bits that are none, and a space of nothing; raises ``GmpqError``."""
        for key, bits in (("w", self.weight_bits), ("a", self.input_bits)):
            for number in bits:
                check_bits(key, number)
            if not bits or list(bits) != sorted(set(bits)):
                told = ", ".join(map(str, bits)) or "nothing"
                raise SearchError(f"bits to choose from: {told}: give rising numbers, as 2,3,4")
        if not self.searched:
            raise SearchError("no layer to search: the network has only a first and a last one")

    @property
    def searched(self) -> tuple[Layer, ...]:
        """The layers that get their bits from the search."""
        return tuple(layer for layer in self.layers if layer.kept is None)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all layers."""
        return sum(layer.macs for layer in self.layers)

    @property
    def published_shares(self) -> dict[str, float]:
        """What ``w * a`` of each layer that a policy names counts in the published BOPs."""
        named = [layer for layer in self.layers if not layer.auxiliary]
        shares = cost.published_shares([layer.macs for layer in named], self.macs)
        return {layer.name: share for layer, share in zip(named, shares, strict=True)}

    def bits(self, assignment: Assignment) -> dict[str, LayerBits]:
        """Return the bits of every layer that a policy names."""
        chosen = iter(assignment.tolist())
        return {
            layer.name: layer.kept or self._pair(*next(chosen))
            for layer in self.layers
            if not layer.auxiliary
        }

    def _pair(self, weight: int, read: int) -> LayerBits:
        return LayerBits(self.weight_bits[weight], self.input_bits[read])


def space_of(
    graph: FloatGraph,
    weight_bits: Sequence[int] = BITS,
    input_bits: Sequence[int] = BITS,
    *,
    ends: LayerBits | None = WIDE,
) -> Space:
    """Return the space of ``graph``; the first and the last layer keep ``ends``, if it is given.

    Raises:
        SearchError: no layer is left to search.
    """
    names = cost.layer_names(graph)
    kept = {} if ends is None or not names else {names[0]: ends, names[-1]: ends}
    costs = cost.measure(graph, dict.fromkeys(names, WIDE)).layers
    layers = tuple(
        Layer(
            layer.name,
            layer.macs,
            layer.weights,
            WIDE if layer.auxiliary else kept.get(layer.name),
            layer.auxiliary,
        )
        for layer in costs
    )
    return Space(layers, tuple(weight_bits), tuple(input_bits))


def require_layers(place: str, given: Mapping[str, object], space: Space) -> None:
    """Pass ``given`` that has every layer of ``space``; ``place`` names where it comes from.

    Raises:
        SearchError: a layer is missing.
    """
    missing = [layer.name for layer in space.layers if layer.name not in given]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise SearchError(
            f'{place}: layer "{missing[0]}"{more} is missing{closest(missing[0], given)}: '
            "measure it too"
        )
