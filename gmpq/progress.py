"""Progress of long work: stages, bars, figures and warnings."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Progress(Protocol):
    """Receives progress updates."""

    def stage(self, name: str) -> None:
        """Announce the stage ``name``."""

    def bar(self, name: str, total: int) -> AbstractContextManager[Callable[[int], object]]:
        """Return a context of a bar; its value is called with each number of finished items."""

    def note(self, text: str) -> None:
        """Show figures next to the running bar."""

    def warn(self, text: str) -> None:
        """Report one line on input that is legal but probably unintended."""


class Silent:
    """Discards all updates."""

    def stage(self, name: str) -> None:
        """Ignore the stage."""

    def bar(self, name: str, total: int) -> AbstractContextManager[Callable[[int], object]]:
        """Ignore the items."""
        return nullcontext(_ignore)

    def note(self, text: str) -> None:
        """Ignore the figures."""

    def warn(self, text: str) -> None:
        """Ignore the warning."""


def _ignore(_: int) -> None:
    """Ignore a number of items."""
