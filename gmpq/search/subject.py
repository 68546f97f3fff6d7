"""The network that is searched: named by a policy, or by the name of a built-in network."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from gmpq import models, policy_io
from gmpq.data import Images, Preprocessing, find_images
from gmpq.errors import CalibrationError
from gmpq.job import RANDOM, Network, Sources, open_network
from gmpq.policy import ModelSpec, Policy


@dataclass(frozen=True, slots=True)
class Subject:
    """A network by its description; nothing is opened yet."""

    model: ModelSpec
    sources: Sources

    @property
    def name(self) -> str:
        """The network's name, as ``open`` calls it."""
        factory = self.sources.factory
        return (factory or self.model.arch or "network").replace(":", ".")

    def open(self) -> Network:
        """Return the network with its weights.

        Raises:
            GmpqError: it is not described, or its weights cannot be used.
        """
        return open_network(Policy(layers={}, model=self.model), self.sources)

    def images(self, network: Network) -> Images:
        """Return the images for ``network``.

        Raises:
            CalibrationError: there are none, or they cannot be used.
        """
        if not self.sources.calibration:
            raise CalibrationError("no calibration images: give --calibration FOLDER (or an array)")
        preprocessing = Preprocessing.of(network.shape, self.model.input)
        return find_images(self.sources.calibration, preprocessing, self.sources.images)

    def model_for(self, out: Path) -> ModelSpec:
        """Return the network's description as a policy at ``out`` has to give it."""
        if self.sources.weights is not None:
            return replace(self.model, weights=_seen_from(out, self.sources.weights, Path()))
        if self.model.weights is None:
            return self.model
        weights = _seen_from(out, self.model.weights, self.sources.policy.parent)
        return replace(self.model, weights=weights)


def find(
    text: str,
    weights: str | None = None,
    factory: str | None = None,
    calibration: tuple[str, ...] = (),
    images: int | None = None,
) -> Subject:
    """Return the subject that ``text`` names: a policy file, or a built-in network.

    Of a policy only ``model`` counts: bits that it gives are not looked at.

    Raises:
        PolicyError: it is neither.
    """
    path = Path(text)
    is_policy = path.suffix == ".json" or path.is_file()
    model = policy_io.read(path).model if is_policy else ModelSpec(arch=models.find(text).name)
    return Subject(model, Sources(path, weights, factory, calibration, images))


def _seen_from(out: Path, weights: str, base: Path) -> str:
    """Return ``weights``, a relative path against ``base``, as a policy at ``out`` names it."""
    if RANDOM.match(weights) or weights.startswith("package:") or Path(weights).is_absolute():
        return weights
    return os.path.relpath(base / weights, out.parent)
