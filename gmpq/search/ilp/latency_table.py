"""Measured milliseconds per layer and bits, from a file.

{"version": 1, "target": "native", "measured_on": ["2026-11-30T12:00:00+00:00, 1 thread", ...],
 "layers": {"conv1": {"w8a8": 0.41}, "layer1.0.conv1": {"w2a2": 0.08, "w2a3": 0.09, ...}, ...}}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gmpq.errors import JsonError, SearchError
from gmpq.files.strict_json import Parsed, number, unique
from gmpq.policy import LayerBits
from gmpq.search.files import read_members

VERSION = 1
PAIR = re.compile(r"w([1-8])a([1-8])")


@dataclass(frozen=True, slots=True)
class LatencyTable:
    """Times in milliseconds by layer and bits; ``place`` names the table in messages."""

    place: str
    layers: Mapping[str, Mapping[LayerBits, float]]

    def time(self, layer: str, bits: LayerBits) -> float:
        """Return the time of ``layer`` at ``bits``.

        Raises:
            SearchError: the table does not have it.
        """
        times = self.layers[layer]
        if bits not in times:
            held = ", ".join(f"w{b.w}a{b.a}" for b in times) or "nothing"
            raise SearchError(
                f'{self.place}: layer "{layer}" has no time at w{bits.w}a{bits.a} '
                f"(it has {held}): measure it too, or leave these bits out"
            )
        return times[bits]


def read(path: Path) -> LatencyTable:
    """Return the table in the file at ``path``.

    Raises:
        SearchError: the file is missing, or no such table.
    """
    fields = read_members(path, VERSION, ("version", "target", "measured_on", "layers"))
    try:
        layers = unique("layers", fields["layers"])
        return LatencyTable(str(path), {name: _times(name, v) for name, v in layers.items()})
    except JsonError as error:
        raise SearchError(f"{path}: {error}") from error


def _times(name: str, value: Parsed) -> dict[LayerBits, float]:
    return dict(_entry(name, key, time) for key, time in unique(f'layers."{name}"', value).items())


def _entry(name: str, key: str, value: Parsed) -> tuple[LayerBits, float]:
    place = f'layers."{name}"."{key}"'
    found = PAIR.fullmatch(key)
    if found is None:
        raise JsonError(f"{place}: no pair of bits: write w4a4")
    time = number(place, value)
    if time < 0:
        raise JsonError(f"{place}: must not be negative, got {time}")
    return LayerBits(int(found[1]), int(found[2])), time
