"""Where files are: paths, patterns, and files inside installed packages.

``package:NAME/PATH`` is a file or folder of an installed package. The package is found, not
imported: naming data runs no code.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

from gmpq.errors import PolicyError

PACKAGE = "package:"
NO_FILE = re.compile(r"package:|random(:\d+)?$")  # what no path leads to
MODELS: Mapping[str, str] = MappingProxyType(
    {
        ".onnx": "an ONNX model",
        ".tflite": "a LiteRT model",
        ".pt": "a file of weights",
        ".pth": "a file of weights",
        ".safetensors": "a file of weights",
    }
)
UNUSUAL = re.compile(r"[^A-Za-z0-9._-]+")  # in the name of a file


def locate(location: str, base: Path) -> Path:
    """Return the path of ``location``; a relative one starts at ``base``.

    Raises:
        FileNotFoundError: the package of a ``package:`` location is not installed, or there is no
            such user's home.
    """
    if not location.startswith(PACKAGE):
        return base / _with_home(location)
    name, _, inside = location.removeprefix(PACKAGE).partition("/")
    return package_folder(name) / inside


def package_folder(name: str) -> Path:
    """Return the folder of the installed package ``name``.

    Raises:
        FileNotFoundError: there is none.
    """
    try:
        spec = find_spec(name) if name.isidentifier() else None
    except ValueError:  # of the program itself, which is __main__
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"package {name!r} is not installed: pip install it")
    return Path(spec.submodule_search_locations[0])


def expand(path: Path) -> list[Path]:
    """Return the paths that ``path`` stands for: itself, or what its last part's * and ? match."""
    if not any(sign in path.name for sign in "*?") or path.exists():
        return [path]
    return sorted(p for p in path.parent.glob("*") if fnmatch.fnmatchcase(p.name, path.name))


def _with_home(location: str) -> Path:
    try:
        return Path(location).expanduser()
    except RuntimeError as error:
        raise FileNotFoundError(str(error)) from error


def seen_from(folder: Path, location: str, base: Path) -> str:
    """Return ``location``, a relative path against ``base``, as one against ``folder``.

    Both folders are resolved, since ``..`` leaves the folder that a link leads to.
    """
    if NO_FILE.match(location) or _with_home(location).is_absolute():
        return location
    path = base / location
    return os.path.relpath(path.parent.resolve() / path.name, folder.resolve())


def refuse_models(path: Path, wanted: str = "gmpq compiles policies (docs/policy.md)") -> None:
    """Pass a path that does not look like a model; ``wanted`` says what is read instead.

    Raises:
        PolicyError: its suffix is that of a model.
    """
    kind = MODELS.get(path.suffix.lower())
    if kind is not None and not path.is_dir():
        raise PolicyError(f"{path}: this is {kind}; {wanted}")


def plain_name(text: str) -> str:
    """Return ``text`` as the name of a file: what is unusual there becomes a hyphen."""
    return UNUSUAL.sub("-", text).strip("-")
