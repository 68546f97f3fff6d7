"""A search by a supernet as a user asks for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from gmpq.policy import LayerBits
from gmpq.search.differentiable.settings import Settings, TeacherRecipe
from gmpq.search.ilp.bounds import Bounds
from gmpq.search.ilp.candidates import WIDE
from gmpq.search.network_source import NetworkSource


@dataclass(frozen=True, slots=True)
class NetworkOptions:
    """How the searched network differs from its source, and which network the policy is for."""

    classes: int | None = None  # outputs of the last linear layer; None leaves them
    keep: tuple[str, ...] = ()  # convolutions that are not searched
    deploy: NetworkSource | None = None  # None: the searched network
    fixed_bits: LayerBits = WIDE  # of the layers that are not searched


@dataclass(frozen=True, slots=True)
class Files:
    """Where checkpoint and log are kept."""

    work: Path  # a folder
    resume: bool = False  # continue from its checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A search by a supernet."""

    method: str  # gmpq or edmips
    source: NetworkSource  # the network, weights of the float one, and labelled images
    out: Path  # of the policy, which names other files from its folder
    files: Files
    settings: Settings = field(default_factory=Settings)
    bounds: Bounds = field(default_factory=Bounds)
    network: NetworkOptions = field(default_factory=NetworkOptions)
    teacher: TeacherRecipe = field(default_factory=TeacherRecipe)
    validation: tuple[str, ...] = ()  # labelled images to report on
    bisect: int | None = None  # searches with other complexity weights
