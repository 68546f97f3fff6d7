"""What a user asks for, and the settings that this is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from gmpq.errors import SearchError
from gmpq.policy import InputSpec
from gmpq.search.differentiable.quantizers import QUANTIZERS
from gmpq.search.differentiable.settings import (
    CapacityPower,
    ConstantPower,
    ExplainedClass,
    Recipe,
    Settings,
    Space,
)
from gmpq.training.augment import Augmentation


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A search as the command line has it: one field per option."""

    method: str
    data: tuple[str, ...]
    out: Path
    arch: str | None = None
    factory: str | None = None
    shape: tuple[int, ...] | None = None  # [C, H, W]
    classes: int | None = None
    keep: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    images: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    resize: int | None = None
    bops: float | None = None
    published_bops: float | None = None
    bisect: int | None = None
    deploy: str | None = None
    fixed_bits: int = 8
    weight_bits: tuple[int, ...] = (2, 3, 4, 6)
    activation_bits: tuple[int, ...] = (2, 3, 4, 6)
    quantizers: str = "haq"
    attribution_weight: float = 40.0
    complexity_weight: float = 3e-4
    theta: float = 24.0
    power: float | None = None
    explain_class: str = "own"
    epochs: int = 25
    batch: int = 256
    lr: float = 0.1
    logits_lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 1e-4
    decay_every: int = 10
    crop: bool = True
    flip: bool = True
    teacher: str | None = None
    teacher_epochs: int = 30
    teacher_lr: float = 0.1
    seed: int = 0
    device: str = "cpu"
    work: Path | None = None
    resume: bool = False

    @property
    def input(self) -> InputSpec:
        """What the network reads, as a policy says it, without its shape."""
        return InputSpec(mean=self.mean, std=self.std, resize=self.resize)


def settings_of(request: Request) -> Settings:
    """Return the settings of ``request``; raises ``SearchError``."""
    (quantizers,) = (each for each in QUANTIZERS if each.name == request.quantizers)
    power = CapacityPower(request.theta) if request.power is None else ConstantPower(request.power)
    recipe = Recipe(
        epochs=request.epochs,
        batch=request.batch,
        lr=request.lr,
        logits_lr=request.logits_lr,
        momentum=request.momentum,
        weight_decay=request.weight_decay,
        decay_every=request.decay_every,
    )
    return Settings(
        space=Space(request.weight_bits, request.activation_bits),
        quantizers=quantizers,
        recipe=recipe,
        augmentation=Augmentation(request.crop, request.flip),
        attribution_weight=request.attribution_weight,
        complexity_weight=request.complexity_weight,
        power=power,
        explained=ExplainedClass(request.explain_class),
        seed=request.seed,
        device=_device(request.device),
    )


def _device(name: str) -> str:
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # torch asserts that CUDA was compiled in
        raise SearchError(f"--device: {name!r} cannot be used here: give cpu") from error
    return name
