"""The inputs of a compile, read from files: policy, network with weights, calibration images."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gmpq import models
from gmpq.errors import CalibrationError, LoweringError, OutputError, PolicyError, WeightsError
from gmpq.files import saved_graph
from gmpq.files.locations import seen_from
from gmpq.inputs.images import Images, Preprocessing, find_images
from gmpq.ir import IntGraph, Shape
from gmpq.models.imports import import_factory
from gmpq.models.modules import check_module
from gmpq.models.random import randomize
from gmpq.models.weight_files import FoundState
from gmpq.models.weights import load_weights, resolve_weights
from gmpq.policy import Policy
from gmpq.policy import file as policy_file

if TYPE_CHECKING:
    from torch import nn

MOST_ELEMENTS = 1 << 28  # of one input, a gigabyte
RANDOM = re.compile(r"random(?::(\d+))?$")


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the inputs come from, as the command line names them."""

    policy: Path
    weights: str | None = None  # a file, package:NAME/PATH, or random[:SEED]
    factory: str | None = None  # package.module:factory of a user's own network
    calibration: Sequence[str] = ()
    images: int | None = None  # the most that are used


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A float network, ready to be lowered."""

    name: str
    module: nn.Module
    shape: Shape  # of its input, [N, C, H, W]
    warnings: tuple[str, ...] = ()  # one line each, on its weights


@dataclass(frozen=True, slots=True, eq=False)
class CompileInputs:
    """All that a compile needs to know about the user's side."""

    policy: Policy
    network: Network
    images: Images
    quantized: IntGraph | None = None  # trained; None is calibrated on the images
    warnings: tuple[str, ...] = ()  # one line each, on what was left out
    folder: Path | None = None  # where relative locations of the policy start, if it has any

    def policy_in(self, out: Path) -> Policy:
        """Return the policy as a file in the folder ``out`` has to say it."""
        return self.policy if self.folder is None else self.policy.seen_from(out, self.folder)


def open_inputs(sources: Sources) -> CompileInputs:
    """Return the inputs that ``sources`` name.

    Raises:
        PolicyError: the policy cannot be read, or names no known network.
        WeightsError: the weights cannot be read, do not fit, or are not named.
        LoweringError: the user's own network cannot be made.
        CalibrationError: the images cannot be used.
    """
    policy, folder = policy_file.read(sources.policy), sources.policy.parent
    network = open_network(policy, sources)
    preprocessing = Preprocessing.of(network.shape, policy.model.input)
    quantized = _open_quantized(policy, sources)
    images = calibration_images(policy, sources, preprocessing)
    warnings = (*network.warnings, *images.ignored)
    return CompileInputs(
        _with_weights(policy, sources), network, images, quantized, warnings, folder
    )


def calibration_images(policy: Policy, sources: Sources, how: Preprocessing) -> Images:
    """Return the images that ``sources`` name, or else ``policy``.

    Raises:
        CalibrationError: neither names any, or they cannot be used.
    """
    if sources.calibration:
        return find_images(sources.calibration, how, sources.images)
    named = policy.calibration
    if named is None:
        raise CalibrationError(
            "no calibration images: give --calibration FOLDER (or an array), or name them in the "
            'policy, as "calibration": ["photographs/"]'
        )
    return find_images(named.images, how, sources.images or named.limit, sources.policy.parent)


def open_network(policy: Policy, sources: Sources) -> Network:
    """Return the network of ``policy`` with its weights.

    Raises:
        PolicyError: the policy names no known network.
        WeightsError: the weights cannot be read, do not fit, or are not named.
        LoweringError: the user's own network cannot be made.
    """
    network = build_network(policy, sources)
    return replace(network, warnings=load_network_weights(network, policy, sources))


def build_network(policy: Policy, sources: Sources) -> Network:
    """Return the network of ``policy`` as its factory makes it.

    Raises:
        PolicyError: the policy names no known network.
        LoweringError: the user's own network cannot be made.
    """
    spec = policy.model
    shape = spec.input.shape if spec.input is not None else None
    if sources.factory is not None:
        if shape is None:
            raise PolicyError("model.input.shape is missing: --import needs it, as [N, C, H, W]")
        _check_size(shape)
        module = import_factory(sources.factory)
        check_module(module)
        return Network(sources.factory.replace(":", "."), module, shape)
    if spec.arch is None:
        raise PolicyError("model.arch is missing: name a built-in network, or give --import")
    arch = models.find(spec.arch)
    _check_size(shape or (1, *arch.shape))
    return Network(arch.name, arch.build(), shape or (1, *arch.shape))


def _check_size(shape: Shape) -> None:
    if math.prod(shape) > MOST_ELEMENTS:
        raise PolicyError(
            f"model.input.shape: {list(shape)} has {math.prod(shape)} numbers, at most "
            f"{MOST_ELEMENTS} can be one input: give a smaller shape"
        )


def _with_weights(policy: Policy, sources: Sources) -> Policy:
    """Return ``policy`` with the weights of ``sources`` in place of those it names."""
    if sources.weights is None:
        return policy
    weights = seen_from(sources.policy.parent, sources.weights, Path())
    return replace(policy, model=replace(policy.model, weights=weights))


def _open_quantized(policy: Policy, sources: Sources) -> IntGraph | None:
    named = policy.model.quantized
    if named is None:
        return None
    try:
        return saved_graph.load(sources.policy.parent / named)
    except OutputError as error:
        raise PolicyError(f"model.quantized: {error}") from error


def load_network_weights(network: Network, policy: Policy, sources: Sources) -> tuple[str, ...]:
    """Load the weights that ``sources``, or else ``policy``, name; return warnings on their file.

    Raises:
        WeightsError: they cannot be read, do not fit, or are not named.
        LoweringError: random weights are asked for, and the network does not run.
    """
    named, base = sources.weights, Path()
    if named is None:
        named, base = policy.model.weights, sources.policy.parent
    if named is None:
        if sources.factory is not None:
            return ()  # the factory gave them
        raise WeightsError("no weights: name them in the policy's model.weights, or give --weights")
    seed = RANDOM.match(named)
    if seed is None:
        path = resolve_weights(named, base)
        return _ambiguous(path, load_weights(network.module, path))
    _, channels, height, width = network.shape
    size = (channels, min(height, 64), min(width, 64))  # statistics need no more
    try:
        randomize(network.module, int(seed[1] or 0), size)
    except RuntimeError as error:
        raise LoweringError(
            f"{network.name}: does not run on inputs of shape {list(network.shape)}: {error}"
        ) from error
    return ()


def _ambiguous(path: Path, found: FoundState) -> tuple[str, ...]:
    if not found.others:
        return ()
    return (
        f"{path}: weights are taken from {'.'.join(found.keys)}, not {', '.join(found.others)}",
    )
