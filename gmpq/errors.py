"""Errors that a user can cause, as one tree of exceptions.

    GmpqError
    ├── JsonError        a JSON text: syntax, depth, types; readers of files convert it
    ├── PolicyError      the policy file: syntax, keys, bits, layers
    ├── WeightsError     the weights file: missing, truncated, wrong shapes, code inside
    ├── LoweringError    the network: an operator or a shape that is not supported
    ├── CalibrationError the calibration data: empty, wrong shape, not finite
    ├── TrainingError    training: the labelled data, a checkpoint, a loss that is no number
    ├── TargetError      the target: unknown, or unable to run here
    ├── SearchError      the search: bounds that no policy meets, tables that do not fit
    ├── BoardError       a board: none is free, it vanished, a program fails on it
    └── OutputError      the output directory: not writable, holding something else

Each message is one line that names the place, the value and the cure; the command line prints it
and exits with 2. A broken invariant of gmpq itself is an ``AssertionError``, never one of these.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GmpqError(Exception):
    """A user's mistake, as one line."""


class JsonError(GmpqError):
    """A JSON text cannot be read, or a value in it is of another type."""


class PolicyError(GmpqError):
    """The policy cannot be read, or does not fit the network."""


class WeightsError(GmpqError):
    """The weights file cannot be read, or does not fit the network."""


class LoweringError(GmpqError):
    """The network holds something that is not supported."""


class CalibrationError(GmpqError):
    """The calibration data cannot be used."""


class TrainingError(GmpqError):
    """Training cannot start, or cannot go on."""


class TargetError(GmpqError):
    """The target is unknown, or cannot run on this machine."""


class SearchError(GmpqError):
    """No policy meets the bounds, or a table or indicators do not fit the network."""


class BoardError(GmpqError):
    """No board is free, a board vanished, or a program fails on it."""


class OutputError(GmpqError):
    """The output directory cannot be written."""


def closest(name: str, names: Iterable[str], most: int = 3) -> str:
    """Return ``" (did you mean a, b?)"`` with the nearest of ``names``, or an empty string."""
    matches = difflib.get_close_matches(name, list(names), n=most, cutoff=0.5)
    return f" (did you mean {', '.join(matches)}?)" if matches else ""


def install_extra(name: str) -> str:
    """Return how the optional packages ``name`` are installed, to end a message with."""
    return f"run in gmpq's folder: pip install -c constraints.txt -e '.[{name}]'"
