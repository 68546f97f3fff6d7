"""Files of the baselines that are slow to make: float and quantized models.

Each is named after the weights that it holds and the version of the tool that wrote it.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from torch import nn

DIGITS = 16


def digest_of_module(module: nn.Module) -> str:
    """Return a name for the weights of ``module``."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:DIGITS]


def digest_of_file(path: Path) -> str:
    """Return a name for the content of ``path``."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:DIGITS]


def made_by(package: str) -> str:
    """Return a package and its version, as part of a file's name."""
    return f"{package}-{metadata.version(package)}"


def fetch(folder: Path, name: str, make: Callable[[Path], object]) -> Path:
    """Return ``folder / name``, a folder that ``make`` fills in if it is not there yet."""
    wanted = folder / name
    if not wanted.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            fresh = Path(scratch) / "fresh"
            fresh.mkdir()
            make(fresh)
            fresh.replace(wanted)  # all of it or nothing
    return wanted
