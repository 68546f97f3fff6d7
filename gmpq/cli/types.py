"""Types of the command line's values."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Generic, TypeVar

import click

PATH = click.Path(path_type=Path)
PAIR = re.compile(r"w([1-8])a([1-8])")
POSITIVE = click.FloatRange(0, min_open=True)
OBSERVERS = ("minmax", "moving-average", "percentile", "mse", "entropy")
OBSERVER = click.Choice(OBSERVERS)  # named here, so that --help needs no numpy; a test compares
WEIGHT_OBSERVER = click.Choice(("mse", "minmax"))

Number = TypeVar("Number", int, float)


class Listed(click.ParamType[tuple[Number, ...]], Generic[Number]):
    """Numbers with commas between them."""

    name = "numbers"

    def __init__(self, parse: Callable[[str], Number], wanted: str, *, rising: bool = False):
        """Make a type of what ``parse`` reads; ``rising`` takes each once, the smallest first."""
        self.parse: Callable[[str], Number] = parse
        self.wanted = wanted
        self.rising = rising

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Number, ...]:
        """Return the numbers."""
        if isinstance(value, tuple):
            return value
        try:
            found = [self.parse(part) for part in str(value).split(",")]
        except ValueError:
            self.fail(f"{value!r}: give {self.wanted}", param, ctx)
        return tuple(sorted(set(found)) if self.rising else found)


def _at_least_0(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise ValueError
    return number


class EnumChoice(click.ParamType[Enum]):
    """One of the values of an enumeration, as its member."""

    name = "choice"

    def __init__(self, kinds: type[Enum]) -> None:
        """Make a type of the members of ``kinds``, whose values are text."""
        self.kinds = kinds
        self.names = click.Choice([str(kind.value) for kind in kinds])

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:
        """Return the values as help shows them."""
        return self.names.get_metavar(param, ctx)

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Enum:
        """Return the member."""
        if isinstance(value, self.kinds):
            return value
        return self.kinds(self.names.convert(value, param, ctx))


BITS = Listed(int, "whole numbers, as 2,3,4,5,6", rising=True)
WHOLE_NUMBERS = Listed(int, "whole numbers with commas, as 2,3,4")
NUMBERS = Listed(_at_least_0, "numbers of at least 0, as 0.5,1,2")


class Ratio(click.ParamType[float]):
    """A number of at least 1, or ``none`` for infinity."""

    name = "ratio"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number."""
        if value == "none":
            return float("inf")
        try:
            ratio = float(str(value))
        except ValueError:
            ratio = 0.0
        if not 1 <= ratio < float("inf"):
            self.fail(f"{value!r}: give a number of at least 1, or none", param, ctx)
        return ratio


@dataclass(frozen=True, slots=True)
class Level:
    """A level of bits: a pair, or a mean number of bits."""

    mean_product: float  # of w and a
    pair: tuple[int, int] | None = None  # whole bits of weight and input


class LevelType(click.ParamType[Level]):
    """A level of bits: ``4`` or ``w3a4``."""

    name = "level"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Level:
        """Return the level."""
        if isinstance(value, Level):
            return value
        pair = PAIR.fullmatch(str(value))
        if pair is not None:
            return Level(float(int(pair[1]) * int(pair[2])), (int(pair[1]), int(pair[2])))
        try:
            bits = float(str(value))
        except ValueError:
            bits = 0.0
        if not 1 <= bits <= 8:
            self.fail(f"{value!r}: give a number from 1 to 8, or a pair as w3a4", param, ctx)
        whole = int(bits)
        return Level(bits * bits, (whole, whole) if whole == bits else None)
