"""Networks that are built in, with the key names of torchvision's state dicts."""

from __future__ import annotations

from gmpq.errors import PolicyError, closest
from gmpq.models import efficientnet, mobilenet, resnet, squeezenet
from gmpq.models.arch import Arch as Arch

ARCHS: tuple[Arch, ...] = (
    *resnet.ARCHS,
    *mobilenet.ARCHS,
    *squeezenet.ARCHS,
    *efficientnet.ARCHS,
)


def find(name: str) -> Arch:
    """Return the built-in network ``name``.

    Raises:
        PolicyError: there is none; close names are offered.
    """
    for arch in ARCHS:
        if arch.name == name:
            return arch
    names = [arch.name for arch in ARCHS]
    hint = closest(name, names) or f" (known: {', '.join(names)})"
    raise PolicyError(f"model.arch: unknown network {name!r}{hint}")
