"""The network that is searched: named by a policy, or by the name of a built-in network.

Torch, which takes seconds to import, is imported when a network is opened: known indicators answer
without it.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gmpq import policy_io
from gmpq.errors import CalibrationError
from gmpq.policy import ModelSpec, Policy

if TYPE_CHECKING:
    from gmpq.data import Images, Preprocessing
    from gmpq.job import Network, Sources
    from gmpq.training.data import Labelled

NO_FILE = re.compile(r"package:|random(:\d+)?$")  # weights that no path leads to


@dataclass(frozen=True, slots=True)
class Subject:
    """A network by its description; nothing is opened yet."""

    model: ModelSpec
    path: Path = field(default_factory=Path)  # the policy, which relative paths start at
    weights: str | None = None
    factory: str | None = None
    calibration: tuple[str, ...] = ()
    limit: int | None = None  # use at most so many images

    @property
    def name(self) -> str:
        """The network's name, as the opened one has it."""
        return (self.factory or self.model.arch or "").replace(":", ".")

    def open(self) -> Network:
        """Return the network with its weights.

        Raises:
            GmpqError: it is not described, or its weights cannot be used.
        """
        from gmpq.job import open_network

        return open_network(self._policy(), self._sources())

    def build(self) -> Network:
        """Return the network as its factory makes it.

        Raises:
            GmpqError: it is not described.
        """
        from gmpq.job import build_network

        return build_network(self._policy(), self._sources())

    def images(self, network: Network) -> Images:
        """Return the images for ``network``.

        Raises:
            CalibrationError: there are none, or they cannot be used.
        """
        from gmpq.data import find_images

        return find_images(self.calibration, self._preprocessing(network), self.limit)

    def labelled(self, network: Network) -> Labelled:
        """Return the labelled images for ``network``, at most so many, evenly from all classes.

        Raises:
            GmpqError: there are none, or they cannot be used.
        """
        from gmpq.training.data import open_all

        return open_all(self.calibration, self._preprocessing(network)).spread(self.limit)

    def _preprocessing(self, network: Network) -> Preprocessing:
        from gmpq.data import Preprocessing

        if not self.calibration:
            raise CalibrationError(
                "no images: give a folder of photographs, or an array (--calibration, or --data)"
            )
        return Preprocessing.of(network.shape, self.model.input)

    def model_for(self, out: Path) -> ModelSpec:
        """Return the network's description as a policy at ``out`` has to give it."""
        weights = self.model.weights
        if self.weights is not None:
            weights = _seen_from(out, self.weights, Path())
        elif weights is not None:
            weights = _seen_from(out, weights, self.path.parent)
        return replace(self.model, weights=weights, quantized=None)  # trained at other bits

    def _policy(self) -> Policy:
        return Policy(layers={}, model=self.model)

    def _sources(self) -> Sources:
        from gmpq.job import Sources

        return Sources(self.path, self.weights, self.factory)


def find(text: str, weights: str | None = None, factory: str | None = None) -> Subject:
    """Return the subject that ``text`` names: a policy file, or a built-in network.

    Of a policy only ``model`` counts: bits that it gives are not looked at. Whether a built-in
    network of that name exists is told when it is opened.

    Raises:
        PolicyError: the policy cannot be read.
    """
    path = Path(text)
    is_policy = path.suffix == ".json" or path.is_file()
    model = policy_io.read(path).model if is_policy else ModelSpec(arch=text)
    return Subject(model, path, weights, factory)


def _seen_from(out: Path, weights: str, base: Path) -> str:
    """Return ``weights``, a relative path against ``base``, as a policy at ``out`` names it."""
    if NO_FILE.match(weights) or Path(weights).is_absolute():
        return weights
    return os.path.relpath(base / weights, out.parent)
