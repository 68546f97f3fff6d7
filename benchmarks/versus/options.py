"""What the command line may say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from gmpq import models
from gmpq.backends.tvm.tuning.level import TuningLevel
from gmpq.errors import closest
from versus.names import TOOLS
from versus.policies import BUDGETS, MIXED, UNIFORM

NETWORKS = ("resnet18", "resnet50", "mobilenet_v2")
NATIVE = "native"
DRAWN = (".svg", ".png")
BITS = ("w8a8", "w6a6", "w4a4", "w3a3", MIXED)


@dataclass(frozen=True, slots=True)
class Options:
    """What to measure, and where to write it."""

    networks: tuple[str, ...] = NETWORKS
    bits: tuple[str, ...] = BITS
    threads: tuple[int, ...] = (1, 2)
    tools: tuple[str, ...] = TOOLS
    seconds: float = 10.0
    seed: int = 0
    target: str = NATIVE
    tune: str = TuningLevel.OFF.value
    correlation: bool = False
    onnx: Path | None = None
    cache: Path | None = None
    json: Path | None = None
    docs: Path | None = None
    plot: Path | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be measured; raises ``click.UsageError``."""
        check_names("--networks", self.networks, [arch.name for arch in models.ARCHS])
        check_names("--tools", self.tools, TOOLS)
        unknown = [name for name in self.bits if name != MIXED and not UNIFORM.match(name)]
        if unknown:
            raise click.UsageError(f"--bits {unknown[0]}: use w8a8, w4a3, ... or {MIXED}")
        if MIXED in self.bits:
            check_names(f"--bits {MIXED}", self.networks, list(BUDGETS))
        if not all(count >= 1 for count in self.threads):
            raise click.UsageError("--threads: use 1 or more, as 1,2")
        if not self.seconds > 0:
            raise click.UsageError(f"--seconds {self.seconds:g}: use more than 0")
        if self.onnx is not None and len(self.networks) != 1:
            raise click.UsageError("--onnx stands in for one network: name it with --networks")
        if self.plot is not None and not self.correlation:
            raise click.UsageError("--plot draws policies of many BOPs: give --correlation too")
        if self.plot is not None and self.plot.suffix not in DRAWN:
            raise click.UsageError(f"--plot {self.plot}: use {' or '.join(DRAWN)}")


class Names(click.ParamType[tuple[str, ...]]):
    """Names with commas between them."""

    name = "names"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Return each name once, in the order given."""
        parts = [part.strip() for part in str(value).split(",")]
        if not all(parts):
            self.fail(f"{value!r} has an empty name", param, ctx)
        return tuple(dict.fromkeys(parts))


class Counts(click.ParamType[tuple[int, ...]]):
    """Whole numbers with commas between them."""

    name = "numbers"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Return each number once, in the order given."""
        try:
            return tuple(dict.fromkeys(int(part) for part in str(value).split(",")))
        except ValueError:
            self.fail(f"{value!r} is not a list of whole numbers, as 1,2", param, ctx)


def check_names(option: str, names: Sequence[str], known: Sequence[str]) -> None:
    """Pass names that are all ``known``; raises ``click.UsageError`` with close ones."""
    for name in names:
        if name not in known:
            hint = closest(name, known) or f": use {', '.join(known)}"
            raise click.UsageError(f"{option}: {name!r} is not available{hint}")
