"""What is searched: the layers of a network, and the bits that each may have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gmpq.errors import SearchError, closest
from gmpq.ir import FloatGraph
from gmpq.passes import cost
from gmpq.policy import LayerBits
from gmpq.search.ilp.candidates import BITS, WIDE, Candidates, require_rising
from gmpq.search.ilp.solver import Assignment


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
        require_rising("w", self.weight_bits)
        require_rising("a", self.input_bits)
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
        """Return the bits of every layer that a policy names.

        ``assignment`` is [L, 2], a row per searched layer.
        """
        return self.named([self._pair(*chosen) for chosen in assignment.tolist()])

    def named(self, searched: Iterable[LayerBits]) -> dict[str, LayerBits]:
        """Return the bits of every layer that a policy names, from those of the searched layers."""
        chosen = iter(searched)
        return {
            layer.name: layer.kept or next(chosen) for layer in self.layers if not layer.auxiliary
        }

    def _pair(self, weight: int, read: int) -> LayerBits:
        return LayerBits(self.weight_bits[weight], self.input_bits[read])


def space_of(
    graph: FloatGraph,
    weight_bits: Sequence[int] = BITS,
    input_bits: Sequence[int] = BITS,
    *,
    first_last_bits: LayerBits | None = WIDE,
) -> Space:
    """Return the space of ``graph``; None for ``first_last_bits`` searches these two layers too.

    Raises:
        SearchError: no layer is left to search.
    """
    names = cost.layer_names(graph)
    first_last = (names[0], names[-1]) if names and first_last_bits is not None else ()
    kept = dict.fromkeys(first_last, first_last_bits)
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


def candidate_space(graph: FloatGraph, candidates: Candidates) -> Space:
    """Return the space of ``graph`` with ``candidates``.

    Raises:
        SearchError: no layer is left to search.
    """
    return space_of(
        graph,
        candidates.weight_bits,
        candidates.input_bits,
        first_last_bits=candidates.first_last_bits,
    )


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
