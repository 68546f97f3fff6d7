"""A weights file becomes a state dict: safetensors, or a PyTorch checkpoint that runs no code.

What a file is follows from its first bytes, never from its name.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from gmpq.errors import WeightsError
from gmpq.files.untrusted import DAMAGE, opened

State: TypeAlias = Mapping[str, torch.Tensor]

ZIP, PICKLE, TEXT = b"PK\x03\x04", b"\x80", b"{"
HEADER = 9  # bytes: safetensors begins with eight that count its JSON, and that with a brace

# Where checkpoints keep a state dict; the first that is there is read, so weights as they were
# trained go before their moving average.
KEYS = (
    *("state_dict", "model_state_dict", "model", "net"),
    *("ema_state_dict", "state_dict_ema", "model_ema", "ema"),
)
COUNTERS = ("n_averaged",)  # of torch.optim.swa_utils, next to the weights

READ_ERRORS = (*DAMAGE, pickle.UnpicklingError, SafetensorError)


@dataclass(frozen=True, slots=True, eq=False)
class FoundState:
    """The state dict of a file."""

    state: State
    keys: tuple[str, ...] = ()  # that it was found under, from outside in
    others: tuple[str, ...] = ()  # next to the last of them, which were not read


def read_state(path: Path) -> FoundState:
    """Return the state dict in the file at ``path``; its tensors are not looked at.

    Raises:
        WeightsError: the file is missing, no regular file, truncated, no weights file or holds
            code.
    """
    with opened(path, WeightsError) as file:
        start = file.read(HEADER)
    if start.startswith(ZIP):
        _refuse_torchscript(path)
    elif start[8:] == TEXT:
        return FoundState(_read_safetensors(path))
    elif not start.startswith(PICKLE):
        raise WeightsError(
            f"{path}: truncated, or not a weights file: give safetensors or a PyTorch checkpoint"
        )
    return _unwrap(path, _read_checkpoint(path))


def _read_safetensors(path: Path) -> State:
    try:
        return load_file(path)
    except READ_ERRORS as error:
        raise WeightsError(f"{path}: truncated, or not a safetensors file: {error}") from error


def _refuse_torchscript(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except READ_ERRORS as error:
        raise _unreadable(path) from error
    if any(name.endswith("/constants.pkl") for name in names):
        raise WeightsError(
            f"{path}: is TorchScript, code with weights: "
            "save torch.jit.load(...).state_dict() by torch.save"
        )


def _read_checkpoint(path: Path) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of kinds of tensors that are refused later
            return torch.load(path, map_location="cpu", weights_only=True)
    except READ_ERRORS as error:
        if "Weights only load failed" in str(error) and "global" in str(error).lower():
            raise WeightsError(
                f"{path}: the pickle holds code, which gmpq does not run: "
                "save only the state_dict, or use safetensors"
            ) from error
        raise _unreadable(path) from error


def _unreadable(path: Path) -> WeightsError:
    return WeightsError(
        f"{path}: truncated, or not a PyTorch checkpoint: copy it again, "
        "or write it with torch.save(model.state_dict(), ...)"
    )


def _unwrap(path: Path, loaded: object, keys: tuple[str, ...] = ()) -> FoundState:
    """Return the state dict in ``loaded``, which was found under ``keys``."""
    if not isinstance(loaded, dict) or not loaded:
        raise WeightsError(f"{path}: holds {type(loaded).__name__}, not a state dict of tensors")
    found = [key for key in KEYS if isinstance(loaded.get(key), dict) and loaded[key]]
    if found and len(keys) < len(KEYS):
        held = _unwrap(path, loaded[found[0]], (*keys, found[0]))
        return held if held.others else FoundState(held.state, held.keys, tuple(found[1:]))
    for key, value in loaded.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise WeightsError(f"{path}: {key!s:.40} is no tensor: save only the state_dict")
    return FoundState({key: value for key, value in loaded.items() if key not in COUNTERS}, keys)
