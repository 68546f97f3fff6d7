"""Types of options, and names that ``--help`` lists without importing torch."""

from __future__ import annotations

from typing import Any

import click

QUANTIZERS = ("haq", "running", "lsq", "hwgq")  # a test holds them to gmpq.search.gmpq.quantizers
CLASSES = ("own", "teacher", "label")


class WholeNumbers(click.ParamType[tuple[int, ...]]):
    """Whole numbers with commas between them."""

    name = "N,N,..."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Return the numbers."""
        try:
            return tuple(int(part) for part in value.split(","))
        except ValueError:
            self.fail(f"got {value!r}: give whole numbers with commas, as in 2,3,4", param, ctx)


class Numbers(click.ParamType[tuple[float, ...]]):
    """Numbers with commas between them."""

    name = "X,X,..."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Return the numbers."""
        try:
            return tuple(float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"got {value!r}: give numbers with commas, as in .5,.5,.5", param, ctx)
