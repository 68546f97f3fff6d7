"""The network that is searched: named by a policy, or by the name of a built-in network.

Torch, which takes seconds to import, is imported when a network is opened: known indicators answer
without it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gmpq.errors import CalibrationError
from gmpq.files.locations import refuse_models, seen_from
from gmpq.policy import CalibrationSpec, ModelSpec, Policy
from gmpq.policy import file as policy_file

if TYPE_CHECKING:
    from gmpq.inputs.compile_inputs import Network, Sources
    from gmpq.inputs.images import Images, Preprocessing
    from gmpq.training.data import Labelled


@dataclass(frozen=True, slots=True)
class NetworkSource:
    """A network by its description; nothing is opened yet."""

    model: ModelSpec
    path: Path = field(default_factory=Path)  # the policy, which relative paths start at
    weights: str | None = None
    factory: str | None = None
    calibration: tuple[str, ...] = ()  # locations of images
    data: tuple[str, ...] = ()  # locations of labelled images
    limit: int | None = None  # use at most this many of the images
    named: CalibrationSpec | None = None  # by the policy, where ``calibration`` is empty

    @property
    def name(self) -> str:
        """The network's name, as the opened one has it."""
        return (self.factory or self.model.arch or "").replace(":", ".")

    @property
    def locations(self) -> tuple[str, ...]:
        """Locations of the calibration images, as the command line or else the policy has them."""
        return self.calibration or (self.named.images if self.named is not None else ())

    def open(self) -> Network:
        """Return the network with its weights.

        Raises:
            GmpqError: it is not described, or its weights cannot be used.
        """
        from gmpq.inputs.compile_inputs import open_network

        return open_network(self._policy(), self._sources())

    @property
    def names_weights(self) -> bool:
        """Whether the command line or the policy names weights."""
        return self.weights is not None or self.model.weights is not None

    def load_weights(self, network: Network) -> tuple[str, ...]:
        """Load the weights into ``network`` and return warnings on their file.

        Raises:
            WeightsError: they cannot be read, do not fit, or are not named.
        """
        from gmpq.inputs.compile_inputs import load_network_weights

        return load_network_weights(network, self._policy(), self._sources())

    def build(self) -> Network:
        """Return the network as its factory makes it.

        Raises:
            GmpqError: it is not described.
        """
        from gmpq.inputs.compile_inputs import build_network

        return build_network(self._policy(), self._sources())

    def images(self, network: Network) -> Images:
        """Return the images for ``network``.

        Raises:
            CalibrationError: there are none, or they cannot be used.
        """
        from gmpq.inputs.compile_inputs import calibration_images

        return calibration_images(self._policy(), self._sources(), self._preprocessing(network))

    def labelled(self, network: Network) -> Labelled:
        """Return the labelled images for ``network``, at most ``limit``, evenly from all classes.

        Raises:
            GmpqError: there are none, or they cannot be used.
        """
        from gmpq.training.data import open_all

        if not self.data:
            raise CalibrationError("no labelled images: give --data FOLDER (or an .npz)")
        return open_all(self.data, self._preprocessing(network)).spread(self.limit)

    def _preprocessing(self, network: Network) -> Preprocessing:
        from gmpq.inputs.images import Preprocessing

        return Preprocessing.of(network.shape, self.model.input)

    def model_for(self, out: Path) -> ModelSpec:
        """Return the network's description as a policy at ``out`` has to give it."""
        weights = self.model.weights
        if self.weights is not None:
            weights = seen_from(out.parent, self.weights, Path())
        elif weights is not None:
            weights = seen_from(out.parent, weights, self.path.parent)
        return replace(self.model, weights=weights, quantized=None)  # trained at other bits

    def calibration_for(self, out: Path) -> CalibrationSpec | None:
        """Return where the policy's images are, as a policy at ``out`` has to name them."""
        return None if self.named is None else self.named.seen_from(out.parent, self.path.parent)

    def _policy(self) -> Policy:
        return Policy(layers={}, model=self.model, calibration=self.named)

    def _sources(self) -> Sources:
        from gmpq.inputs.compile_inputs import Sources

        calibration, limit = self.calibration, self.limit
        return Sources(self.path, self.weights, self.factory, calibration, limit)


def find(text: str, weights: str | None = None, factory: str | None = None) -> NetworkSource:
    """Return the source that ``text`` names: a policy file, or a built-in network.

    Of a policy only ``model`` and ``calibration`` count; its bits are ignored. An unknown name of a
    built-in network is an error when the network is opened.

    Raises:
        PolicyError: the policy cannot be read.
    """
    path = Path(text)
    refuse_models(path)
    is_policy = path.suffix == ".json" or path.is_file()
    policy = policy_file.read(path) if is_policy else Policy({}, model=ModelSpec(arch=text))
    return NetworkSource(policy.model, path, weights, factory, named=policy.calibration)
