"""Types of the command line's values."""

from __future__ import annotations

import re
from pathlib import Path

import click

PATH = click.Path(path_type=Path)
PAIR = re.compile(r"w([1-8])a([1-8])")
POSITIVE = click.FloatRange(0, min_open=True)


class Bits(click.ParamType[tuple[int, ...]]):
    """Numbers of bits with commas between them."""

    name = "bits"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Return each number once, rising."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(sorted({int(part) for part in str(value).split(",")}))
        except ValueError:
            self.fail(f"{value!r}: give whole numbers, as 2,3,4,5,6", param, ctx)


class WholeNumbers(click.ParamType[tuple[int, ...]]):
    """Whole numbers with commas between them."""

    name = "numbers"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Return the numbers."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(int(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r}: give whole numbers with commas, as 2,3,4", param, ctx)


class MeanProduct(click.ParamType[float]):
    """A level of bits: ``4`` or ``w3a4``, as the mean product ``w * a``."""

    name = "level"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the product."""
        pair = PAIR.fullmatch(str(value))
        if pair is not None:
            return float(int(pair[1]) * int(pair[2]))
        try:
            bits = float(str(value))
        except ValueError:
            bits = 0.0
        if not 1 <= bits <= 8:
            self.fail(f"{value!r}: give a number from 1 to 8, or a pair as w3a4", param, ctx)
        return bits * bits


class Numbers(click.ParamType[tuple[float, ...]]):
    """Numbers with commas between them."""

    name = "numbers"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Return the numbers."""
        if isinstance(value, tuple):
            return value
        try:
            found = tuple(float(part) for part in str(value).split(","))
        except ValueError:
            found = ()
        if not found or not all(0 <= number < float("inf") for number in found):
            self.fail(f"{value!r}: give numbers of at least 0, as 0.5,1,2", param, ctx)
        return found
