"""The bits that a search chooses from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gmpq.errors import SearchError
from gmpq.policy import LayerBits, check_bits

BITS = (2, 3, 4, 5, 6)  # the candidates of LIMPQ
WIDE = LayerBits(8, 8)  # of the first and the last layer, as all papers keep them


@dataclass(frozen=True, slots=True)
class Candidates:
    """Bit widths of weights and inputs, in rising order, and the fixed bits of other layers."""

    weight_bits: tuple[int, ...] = BITS
    input_bits: tuple[int, ...] = BITS
    first_last_bits: LayerBits | None = WIDE  # None: the first and the last layer are searched too

    def __post_init__(self) -> None:
        """Refuse bits that no policy may have; raises ``GmpqError``."""
        require_rising("w", self.weight_bits)
        require_rising("a", self.input_bits)


def require_rising(key: str, bits: Sequence[int]) -> None:
    """Pass different numbers of bits in rising order; ``key`` is w or a.

    Raises:
        PolicyError: a number is none that a policy may have.
        SearchError: there are none, or they do not rise.
    """
    for number in bits:
        check_bits(key, number)
    if not bits or list(bits) != sorted(set(bits)):
        given = ", ".join(map(str, bits)) or "nothing"
        raise SearchError(f"bits to choose from: {given}: give rising numbers, as 2,3,4")
