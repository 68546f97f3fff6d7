"""Progress on a terminal; where stderr is none, warnings alone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm


class Terminal:
    """Shows progress to a person at a terminal."""

    def __init__(self) -> None:
        """Show no bar yet."""
        self._shown: tqdm | None = None

    def stage(self, name: str) -> None:
        """Print the name of the stage."""
        if sys.stderr.isatty():
            print(f"{name} ...", file=sys.stderr)  # noqa: T201 - this is the terminal

    @contextmanager
    def bar(self, name: str, total: int) -> Iterator[Callable[[int], object]]:
        """Show a bar of ``total`` items."""
        with tqdm(total=total, desc=name, unit="image", file=sys.stderr, disable=None) as shown:
            self._shown = shown
            yield shown.update
            self._shown = None

    def note(self, text: str) -> None:
        """Show figures behind the bar."""
        if self._shown is not None:
            self._shown.set_postfix_str(text, refresh=False)

    def warn(self, text: str) -> None:
        """Print the warning, wherever stderr goes."""
        print(f"warning: {text}", file=sys.stderr)  # noqa: T201 - as above
