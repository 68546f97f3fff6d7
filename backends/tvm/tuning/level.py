"""How many kernels of a layer are measured; free of heavy imports, for options."""

from __future__ import annotations

from enum import Enum


class TuningLevel(Enum):
    """How many candidates of a layer are measured."""

    OFF = "off"  # none: predicted cycles decide
    QUICK = "quick"  # the best predicted ones, and the best of each family
    FULL = "full"  # all
