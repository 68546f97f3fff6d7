"""Options made from the fields of a dataclass have its defaults, and arrive as one argument."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import click
import pytest
from click.testing import CliRunner

from gmpq.cli.options import field_option, grouped


class Kind(Enum):
    ROUND = "round"
    FLAT = "flat"


@dataclass(frozen=True, slots=True)
class Settings:
    batch_size: int = 4
    rate: float = 0.5
    kind: Kind = Kind.FLAT
    flip: bool = True
    resume: bool = False
    limit: int | None = None
    bits: tuple[int, ...] = field(default_factory=lambda: (2, 3))


def options(owner: Any) -> list[Any]:
    names = ("batch_size", "rate", "kind", "flip", "resume")
    limit = field_option(owner, "limit", "most", type=click.IntRange(1))
    return [*(field_option(owner, name) for name in names), limit]


def given(arguments: Sequence[str], owner: Any = Settings) -> Settings:
    """Return the settings that a command receives for ``arguments``."""
    found = []

    @click.command()
    @grouped("settings", Settings, options(owner))
    def command(settings: Settings) -> None:
        found.append(settings)

    result = CliRunner().invoke(command, list(arguments))
    assert result.exit_code == 0, result.output
    return found[0]


def test_defaults_are_those_of_the_fields() -> None:
    assert given(()) == Settings()


def test_an_instance_gives_other_defaults() -> None:
    other = Settings(batch_size=8, kind=Kind.ROUND)
    assert given((), other) == other


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(("--batch-size", "2"), Settings(batch_size=2), id="whole"),
        pytest.param(("--rate", "2"), Settings(rate=2.0), id="real"),
        pytest.param(("--kind", "round"), Settings(kind=Kind.ROUND), id="choice"),
        pytest.param(("--no-flip",), Settings(flip=False), id="off"),
        pytest.param(("--resume",), Settings(resume=True), id="on"),
        pytest.param(("--most", "3"), Settings(limit=3), id="renamed"),
    ],
)
def test_values(arguments: Sequence[str], expected: Settings) -> None:
    assert given(arguments) == expected


def test_help_shows_defaults_and_choices() -> None:
    @click.command()
    @grouped("settings", Settings, options(Settings))
    def command(settings: Settings) -> None:
        """Do nothing."""

    text = CliRunner().invoke(command, ["--help"]).output
    assert "[default: 4]" in text
    assert "[round|flat]" in text
    assert "[default: flat]" in text
