"""The two libraries of TVM that the server is linked to, for this machine or another.

Wheels for other machines are fetched by pip, in the versions that are installed here, or taken from
a folder. A library that differs from the digest in its wheel is not used.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.util
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

from gmpq.errors import BoardError
from gmpq.files import temporary

LIBRARIES = (  # distribution, package, library
    ("apache-tvm", "tvm", "libtvm_runtime.so"),
    ("apache-tvm-ffi", "tvm_ffi", "libtvm_ffi.so"),
)
OLDEST_GLIBC = "2_28"


def versions() -> tuple[str, ...]:
    """Return the requirements that the libraries come from, as ``apache-tvm==0.27.0``."""
    return tuple(f"{name}=={version(name)}" for name, _, _ in LIBRARIES)


def installed(package: str) -> Path:
    """Return the folder of an installed package, without importing it."""
    spec = importlib.util.find_spec(package)
    assert spec is not None, f"{package} is a dependency"
    assert spec.origin is not None
    return Path(spec.origin).parent


def copy_installed(folder: Path) -> None:
    """Copy this machine's libraries into ``folder``."""
    for _, package, library in LIBRARIES:
        content = (installed(package) / "lib" / library).read_bytes()
        (folder / library).write_bytes(content)


def fetch(machine: str, folder: Path) -> None:
    """Put the libraries for ``machine`` ("aarch64") into ``folder``, from wheels that pip fetches.

    Raises:
        BoardError: pip cannot fetch them.
    """
    with temporary.folder() as wheels:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
                *("--only-binary=:all:", "--platform", f"manylinux_{OLDEST_GLIBC}_{machine}"),
                *("--python-version", f"{sys.version_info.major}.{sys.version_info.minor}"),
                *("--dest", str(wheels), *versions()),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise BoardError(
                f"pip cannot fetch {' and '.join(versions())} for {machine} ({reason}): "
                "fetch the wheels elsewhere and give --wheels FOLDER"
            )
        unpack(wheels, machine, folder)


def unpack(wheels: Path, machine: str, folder: Path) -> None:
    """Put the libraries for ``machine`` into ``folder``, from the wheels in ``wheels``.

    Raises:
        BoardError: a wheel is missing or damaged.
    """
    for distribution, package, library in LIBRARIES:
        wheel = _find(wheels, distribution, machine)
        try:
            content = _verified(wheel, f"{package}/lib/{library}")
        except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
            raise BoardError(f"{wheel}: damaged ({error}): fetch it again") from error
        (folder / library).write_bytes(content)


def _find(wheels: Path, distribution: str, machine: str) -> Path:
    prefix = f"{distribution.replace('-', '_')}-{version(distribution)}-"
    for path in sorted(wheels.glob(f"{prefix}*{machine}.whl")):
        return path
    raise BoardError(
        f"{wheels}: holds no {prefix}...{machine}.whl: {' '.join(_command(machine, wheels))}"
    )


def _command(machine: str, wheels: Path) -> tuple[str, ...]:
    """Return what a user types to fetch the wheels."""
    platform = f"manylinux_{OLDEST_GLIBC}_{machine}"
    options = ("--no-deps", "--only-binary=:all:", "--platform", platform, "-d", str(wheels))
    return ("pip", "download", *options, *versions())


def _verified(wheel: Path, name: str) -> bytes:
    """Return a file of the wheel that has the digest in the wheel's own list."""
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read(name)
        (record,) = (each for each in archive.namelist() if each.endswith(".dist-info/RECORD"))
        rows = csv.reader(archive.read(record).decode("utf-8").splitlines())
    digests = {row[0]: row[1] for row in rows}
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
    if digests[name] != f"sha256={digest}":
        raise ValueError(f"{name} differs from its digest")
    return content
