"""Checkpoints of a training or a search: files of torch that run no code, and may be damaged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from gmpq.errors import GmpqError
from gmpq.files import atomic
from gmpq.files.untrusted import require_file
from gmpq.models.weight_files import READ_ERRORS

# What load_state_dict of networks and optimizers raises for a state that is not theirs.
UNFIT = (RuntimeError, ValueError, LookupError, TypeError, AttributeError, AssertionError)


def write(state: Mapping[str, Any], path: Path) -> None:
    """Write ``state``, numbers, texts, lists, dicts and tensors, to ``path``, all or nothing.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic.written(path) as part:
        try:
            torch.save(dict(state), part)
        except RuntimeError as error:  # of a full disk
            raise OSError(str(error).partition("\n")[0]) from error


def read(path: Path, refuse: Callable[[str], GmpqError], cure: str) -> dict[str, Any]:
    """Return the members of the dict in the file at ``path``.

    Raises:
        GmpqError: made by ``refuse``: the file is missing, damaged, or holds something else; with
            ``cure`` at its end.
    """
    require_file(path, refuse)
    damaged = f"{path}: damaged, or not a checkpoint: {cure}"
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except READ_ERRORS as error:
        raise refuse(damaged) from error
    if not isinstance(held, dict):
        raise refuse(damaged)
    return held
