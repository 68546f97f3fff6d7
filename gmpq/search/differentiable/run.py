"""From what a user asks to a policy and what is known about it."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from gmpq import table
from gmpq.errors import SearchError
from gmpq.files.strict_json import JSON
from gmpq.inputs.compile_inputs import Network
from gmpq.inputs.images import Preprocessing
from gmpq.policy import Policy, Provenance
from gmpq.progress import Progress
from gmpq.search.differentiable.checkpoint import require_checkpoint
from gmpq.search.differentiable.deployment import deployment_space
from gmpq.search.differentiable.image_sizes import check_sizes
from gmpq.search.differentiable.inspect import NetworkInfo, inspect_network
from gmpq.search.differentiable.options import Request
from gmpq.search.differentiable.search import Found, Target, figures, make_folder, search
from gmpq.search.differentiable.settings import Settings
from gmpq.search.differentiable.supernet import make_supernet, with_classes
from gmpq.search.differentiable.teacher import (
    TeacherTraining,
    freeze,
    load_teacher,
    save_teacher,
    train_teacher,
)
from gmpq.search.differentiable.train import Task
from gmpq.search.ilp.constraints import total_published_bops
from gmpq.search.ilp.solver import Losses, solve
from gmpq.search.ilp.space import Space
from gmpq.search.network_source import NetworkSource
from gmpq.training.augment import Augmentation
from gmpq.training.data import Labelled, check_labels, check_trainable
from gmpq.training.processes import rank, wait

BOPS_BOUNDS = {"bops", "published_bops", "mean_product"}


@dataclass(frozen=True, slots=True)
class Searched:
    """The policy that a search has found."""

    policy: Policy
    space: Space  # of the network that the policy is for
    summary: str  # a table of figures


def search_policy(request: Request, progress: Progress) -> Searched:
    """Return the policy that ``request`` asks for.

    Raises:
        GmpqError: network, data, bounds or options do not fit.
    """
    settings = request.settings
    _check_device(settings.device)
    network = _network(request)
    info = _inspect(network, request)
    make_supernet(network.module, info, settings)  # an early error if a quantizer does not fit
    space = _space(request, info)
    target = _target(request, space)
    data, validation = _data(request, network, info.classes)
    for line in (*data.ignored, *(validation.ignored if validation is not None else ())):
        progress.warn(line)
    task = Task(network.module, info, space, data, request.files.work, validation)
    if request.files.resume and not target.runs:
        require_checkpoint(task.checkpoint)
    if rank() == 0:
        make_folder(task.work)
    wait()
    teacher, seconds = _teacher(request, network, task, progress)
    found = search(task, teacher, settings, target, progress, resume=request.files.resume)
    source = request.network.deploy or request.source
    policy = Policy(
        found.bits,
        model=source.model_for(request.out),
        provenance=_provenance(request, found, space, seconds),
        calibration=source.calibration_for(request.out),
    )
    return Searched(policy, space, _summary(found))


def _check_device(name: str) -> None:
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # torch asserts that CUDA was compiled in
        raise SearchError(f"--device: {name!r} cannot be used here: give cpu") from error


def _network(request: Request) -> Network:
    network = request.source.build()
    classes = request.network.classes
    if classes is None:
        return network
    info = inspect_network(network.module, _image_shape(network))
    return replace(network, module=with_classes(network.module, info, classes))


def _image_shape(network: Network) -> tuple[int, int, int]:
    _, channels, height, width = network.shape
    return channels, height, width


def _inspect(network: Network, request: Request) -> NetworkInfo:
    shape = _image_shape(network)
    info = inspect_network(network.module, shape, request.network.keep)
    if request.settings.attribution_weight > 0 and info.map_pixels < 2:
        raise SearchError(
            f"model.input.shape: images of {shape[1]}x{shape[2]} leave an attribution map of one "
            "pixel: give larger ones in the policy file, or --attribution-weight 0"
        )
    return info


def _space(request: Request, info: NetworkInfo) -> Space:
    deployed, deploy = info, request.network.deploy
    if deploy is not None:
        other = deploy.build()
        deployed = inspect_network(other.module, _image_shape(other))
    fixed = request.network.fixed_bits
    return deployment_space(info, deployed, request.settings.candidates, fixed)


def _target(request: Request, space: Space) -> Target:
    """Return the bounds, of which it is known that some policy meets them."""
    bounds, runs = request.bounds, request.bisect or 0
    constraints = bounds.optional_constraints(space)
    size = (len(space.searched), len(space.weight_bits), len(space.input_bits))
    solve(Losses(np.zeros(size)), constraints)
    if runs and not (len(constraints) == 1 and bounds.limits().keys() <= BOPS_BOUNDS):
        raise SearchError(
            f"--bisect: needs a bound on BOPs, and no other, got "
            f"{' and '.join(bounds.options) or 'none'}: give --bops, --published-bops or --bits"
        )
    return Target(constraints, runs)


def _data(request: Request, network: Network, classes: int) -> tuple[Labelled, Labelled | None]:
    source = request.source
    how = Preprocessing.of(network.shape, source.model.input)
    if how.resize is None:
        check_sizes((*source.data, *request.validation), _image_shape(network))
    data = source.labelled(network)
    check_trainable(data, classes)
    if not request.validation:
        return data, None
    validation = replace(source, data=request.validation).labelled(network)
    check_labels(validation, classes)
    return data, validation


def _teacher(
    request: Request, network: Network, task: Task, progress: Progress
) -> tuple[nn.Module | None, float]:
    """Return the float network, if one is imitated, and the seconds that training it took."""
    settings, source = request.settings, request.source
    if settings.attribution_weight == 0:
        return None, 0.0
    kept = task.work / "teacher.safetensors"
    started, seconds = time.monotonic(), 0.0
    if source.names_weights:
        teacher = _given(source, network, settings, progress)
    elif request.files.resume and kept.exists():
        teacher = load_teacher(task.module, kept, settings.device)
    else:
        teacher = train_teacher(task.module, _teacher_training(request, task), progress)
        seconds = time.monotonic() - started
    if rank() == 0:
        save_teacher(teacher, kept)
    return teacher, seconds


def _given(
    source: NetworkSource, network: Network, settings: Settings, progress: Progress
) -> nn.Module:
    """Return a copy of the network with the weights that ``source`` names."""
    teacher = replace(network, module=copy.deepcopy(network.module))
    for line in source.load_weights(teacher):
        progress.warn(line)
    return freeze(teacher.module.to(settings.device))


def _teacher_training(request: Request, task: Task) -> TeacherTraining:
    settings = request.settings
    augmentation = Augmentation(settings.recipe.crop, settings.recipe.flip)
    return TeacherTraining(task.data, request.teacher, augmentation, settings.seed, settings.device)


def _provenance(request: Request, found: Found, space: Space, teacher_seconds: float) -> Provenance:
    settings = request.settings
    details: dict[str, JSON] = {
        "network": request.source.name,
        "quantizers": settings.quantizers.value,
        "weight_bits": list(settings.candidates.weight_bits),
        "input_bits": list(settings.candidates.input_bits),
        "attribution_weight": settings.attribution_weight,
        "epochs": settings.recipe.epochs,
        "teacher_seconds": round(teacher_seconds, 1),
        "published_bops": total_published_bops(space, found.bits),
        **figures(found),
    }
    return Provenance(
        method=request.method,
        dataset=", ".join(request.source.data),
        constraint=request.bounds.limits() or None,
        seed=settings.seed,
        details=details,
    )


def _summary(found: Found) -> str:
    outcome = found.outcome
    lines = [
        ("BOPs of the largest logits", _giga(outcome.argmax_bops)),
        ("BOPs expected under the logits", _giga(outcome.expected_bops)),
    ]
    if outcome.record is not None:
        lines.append(("accuracy on the training images", f"{100 * outcome.record.accuracy:.1f}%"))
        lines.append(("empty attribution maps", f"{100 * outcome.record.empty_maps:.1f}%"))
    return table.render(("search", "found"), lines)


def _giga(bops: float) -> str:
    return f"{bops / 1e9:.4f} G"
