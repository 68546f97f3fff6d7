"""What long work tells while it runs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Progress(Protocol):
    """Whoever is told how far the work is."""

    def stage(self, name: str) -> None:
        """Hear that the stage ``name`` begins."""

    def bar(self, name: str, total: int) -> AbstractContextManager[Callable[[int], object]]:
        """Return a context whose value is called with each number of items that is done."""

    def note(self, text: str) -> None:
        """Hear figures that stand beside the running bar."""

    def warn(self, text: str) -> None:
        """Receive one line on what is allowed, but hardly meant."""


class Silent:
    """Tells nobody."""

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
