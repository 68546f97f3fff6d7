"""What bits cost in quality, per layer, of weights and of inputs; kept in a file.

The file also holds what every layer costs, so that a new bound is answered without the network:

    {"version": 1, "method": "sensitivity", "network": "resnet18", "dataset": "photographs/",
     "seed": 0, "details": {}, "weight_bits": [2, 3, 4], "input_bits": [2, 3, 4],
     "layers": {"conv1": {"macs": 118013952, "weights": 9408, "kept": [8, 8]},
                "layer1.0.conv1": {"macs": 115605504, "weights": 36864,
                                   "w": [0.2, 0.04, 0.01], "a": [0.1, 0.02, 0.004]}, ...}}
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from gmpq.errors import GmpqError, JsonError, SearchError
from gmpq.files.strict_json import (
    JSON,
    Parsed,
    listed,
    members,
    numbers,
    plain,
    positive,
    require,
    string,
    unique,
    whole,
)
from gmpq.policy import LayerBits
from gmpq.search.files import read_members, write_json
from gmpq.search.ilp.solver import Losses, Reals
from gmpq.search.ilp.space import Layer, Space

VERSION = 1
FIELDS = ("method", "network", "dataset", "seed", "weight_bits", "input_bits", "layers")


@dataclass(frozen=True, slots=True, eq=False)
class Indicators:
    """Losses of the searched layers of ``space``, and where they come from."""

    method: str
    network: str
    space: Space
    weight: Reals  # [L, W]
    read: Reals  # [L, A]
    dataset: str
    seed: int = 0
    details: Mapping[str, JSON] = field(default_factory=dict)

    def losses(self, alpha: float) -> Losses:
        """Return the losses ``read + alpha * weight`` of every pair."""
        return Losses(self.read[:, None, :] + alpha * self.weight[:, :, None])

    def only(
        self, weight_bits: Sequence[int] | None, input_bits: Sequence[int] | None
    ) -> Indicators:
        """Return the indicators of some of the bits; None keeps all.

        Raises:
            SearchError: bits are asked for that were not measured.
        """
        weight = _positions("weight", self.space.weight_bits, weight_bits)
        read = _positions("input", self.space.input_bits, input_bits)
        space = replace(
            self.space,
            weight_bits=tuple(self.space.weight_bits[i] for i in weight),
            input_bits=tuple(self.space.input_bits[i] for i in read),
        )
        return replace(self, space=space, weight=self.weight[:, weight], read=self.read[:, read])


def forbid_falling(losses: Reals) -> Reals:
    """Return ``losses`` [L, B] with infinity where fewer bits seem to lose less than the next more.

    LIMPQ trusts no step that shrinks when bits are taken away; its code writes 1e8 there.
    """
    found = losses.copy()
    found[:, :-1][losses[:, :-1] < losses[:, 1:]] = math.inf
    return found


def write(indicators: Indicators, path: Path) -> None:
    """Write ``indicators`` to ``path``, all or nothing.

    Raises:
        OutputError: the file cannot be written.
    """
    space = indicators.space
    losses = iter(zip(indicators.weight.tolist(), indicators.read.tolist(), strict=True))
    content: dict[str, JSON] = {
        "version": VERSION,
        "method": indicators.method,
        "network": indicators.network,
        "dataset": indicators.dataset,
        "seed": indicators.seed,
        "details": dict(indicators.details),
        "weight_bits": list(space.weight_bits),
        "input_bits": list(space.input_bits),
    }
    layers: dict[str, JSON] = {
        layer.name: _layer_fields(layer)
        if layer.kept is not None
        else _layer_fields(layer) | dict(zip(("w", "a"), next(losses), strict=True))
        for layer in space.layers
    }
    write_json(path, content, layers)


def read(path: Path) -> Indicators:
    """Return the indicators in the file at ``path``.

    Raises:
        SearchError: the file is missing, or holds no indicators.
    """
    fields = read_members(path, VERSION, ("version", "details", *FIELDS))
    try:
        require("file", fields, *FIELDS)
        return _indicators(fields)
    except GmpqError as error:
        raise SearchError(f"{path}: {error}") from error


def reuse(
    path: Path,
    network: str,
    method: str,
    weight_bits: Sequence[int] | None,
    input_bits: Sequence[int] | None,
) -> Indicators:
    """Return the indicators in the file at ``path``, for some of its bits; None keeps all.

    Raises:
        SearchError: they are of another network or method, or lack bits.
    """
    found = read(path)
    checks = (("network", found.network, network), ("method", found.method, method))
    for what, held, wanted in checks:
        if held != wanted:
            raise SearchError(
                f"{path}: holds indicators of {what} {held}, not {wanted}: name another file"
            )
    return found.only(weight_bits, input_bits)


def _indicators(fields: Mapping[str, Parsed]) -> Indicators:
    entries = unique("layers", fields["layers"])
    layers = tuple(_layer(name, value) for name, value in entries.items())
    bits = [_whole_numbers(key, fields[key]) for key in ("weight_bits", "input_bits")]
    space = Space(layers, *bits)
    details = plain("details", fields["details"]) if "details" in fields else {}
    assert isinstance(details, dict)
    return Indicators(
        string("method", fields["method"]),
        string("network", fields["network"]),
        space,
        _losses(entries, space, "w", len(space.weight_bits)),
        _losses(entries, space, "a", len(space.input_bits)),
        string("dataset", fields["dataset"]),
        whole("seed", fields["seed"]),
        details,
    )


def _layer(name: str, value: Parsed) -> Layer:
    place = f'layers."{name}"'
    found = members(place, value, ("macs", "weights", "kept", "auxiliary", "w", "a"))
    require(place, found, "macs", "weights")
    kept = None
    if "kept" in found:
        pair = _whole_numbers(f"{place}.kept", found["kept"])
        if len(pair) != 2:
            raise JsonError(f"{place}.kept: must be [w, a]")
        kept = LayerBits(*pair)
    macs = positive(f"{place}.macs", found["macs"])
    weights = positive(f"{place}.weights", found["weights"])
    return Layer(name, macs, weights, kept, "auxiliary" in found)


def _layer_fields(layer: Layer) -> dict[str, JSON]:
    fields: dict[str, JSON] = {"macs": layer.macs, "weights": layer.weights}
    if layer.kept is not None:
        fields["kept"] = [layer.kept.w, layer.kept.a]
    if layer.auxiliary:
        fields["auxiliary"] = True
    return fields


def _losses(entries: Mapping[str, Parsed], space: Space, key: str, count: int) -> Reals:
    rows = []
    for layer in space.searched:
        place = f'layers."{layer.name}"'
        found = unique(place, entries[layer.name])
        require(place, found, key)
        row = numbers(f"{place}.{key}", found[key])
        if len(row) != count:
            raise JsonError(f"{place}.{key}: {len(row)} numbers for {count} numbers of bits")
        rows.append(row)
    return np.array(rows, np.float64)


def _whole_numbers(place: str, value: Parsed) -> tuple[int, ...]:
    return tuple(whole(place, item) for item in listed(place, value))


def _positions(what: str, held: Sequence[int], wanted: Sequence[int] | None) -> list[int]:
    missing = [bits for bits in wanted or () if bits not in held]
    if missing:
        raise SearchError(
            f"{what} bits {missing[0]}: the indicators have {', '.join(map(str, held))}: "
            "measure these too"
        )
    return [index for index, bits in enumerate(held) if wanted is None or bits in wanted]
