"""From what a user asks to a policy file."""

from __future__ import annotations

import time
from pathlib import Path

from torch import nn

from gmpq import models, table
from gmpq.errors import OutputError, PolicyError, SearchError
from gmpq.files.strict_json import JSON
from gmpq.inputs.images import Preprocessing
from gmpq.models.imports import import_factory
from gmpq.models.weights import resolve_weights
from gmpq.policy import InputSpec, LayerBits, ModelSpec, Provenance
from gmpq.policy import file as policy_file
from gmpq.progress import Progress
from gmpq.search.differentiable.assignment import Bill, check_bound
from gmpq.search.differentiable.checkpoint import require_checkpoint
from gmpq.search.differentiable.image_sizes import check_sizes
from gmpq.search.differentiable.inspect import NetworkInfo, inspect_network
from gmpq.search.differentiable.options import Request, settings_of
from gmpq.search.differentiable.search import (
    Bound,
    Deployment,
    Found,
    figures,
    make_folder,
    search,
    to_policy,
)
from gmpq.search.differentiable.settings import Settings, Space, TeacherRecipe
from gmpq.search.differentiable.supernet import make_supernet, with_classes
from gmpq.search.differentiable.teacher import (
    TeacherTraining,
    load_teacher,
    save_teacher,
    train_teacher,
)
from gmpq.search.differentiable.train import Task
from gmpq.training.data import Labelled, check_labels, check_trainable, open_all
from gmpq.training.processes import rank, wait


def search_policy(request: Request, progress: Progress) -> str:
    """Write the policy that ``request`` asks for; return a table of what was found.

    Raises:
        GmpqError: network, data, bounds or options do not fit; nothing is written then.
    """
    settings = settings_of(request)
    _check_place(request.out)
    module, shape = _network(request)
    info = inspect_network(module, shape, request.keep)
    if settings.attribution_weight > 0 and info.map_pixels < 2:
        raise SearchError(
            f"--shape: images of {shape[1]}x{shape[2]} leave an attribution map of one pixel: "
            "give larger ones, or --attribution-weight 0"
        )
    make_supernet(module, info, settings)  # what it refuses is better refused now
    deployment = _deployment(request, info, shape)
    bill = deployment.bill(info)
    bound = _bound(request, bill, settings.space)
    data, validation = _data(request, shape, info.classes)
    for line in (*data.ignored, *(validation.ignored if validation is not None else ())):
        progress.warn(line)
    work = request.work or request.out.with_suffix(".search")
    task = Task(module, info, bill, data, work, validation)
    if request.resume and not bound.runs:
        require_checkpoint(task.checkpoint)
    if rank() == 0:
        make_folder(work)
    wait()
    teacher, seconds = _teacher(request, settings, task, progress)
    found = search(task, teacher, settings, bound, progress, resume=request.resume)
    if rank() == 0:
        provenance = _provenance(request, found, bill, seconds)
        policy_file.write(to_policy(found, info, deployment, provenance), request.out)
    return _report(found, info, bill)


def _check_place(out: Path) -> None:
    if not out.resolve().parent.is_dir():
        raise OutputError(f"{out}: there is no folder {out.parent}: make it first")
    if out.is_dir():
        raise OutputError(f"{out}: is a folder: give the name of a file")


def _bound(request: Request, bill: Bill, space: Space) -> Bound:
    if request.bops is not None and request.published_bops is not None:
        raise SearchError("--bops and --published-bops: give one of them")
    bops, least = request.bops, bill.least(space)
    if bops is not None:
        check_bound("--bops", bops, least)
    if request.published_bops is not None:
        check_bound("--published-bops", request.published_bops, bill.published(bill.fewest(space)))
        bops = bill.from_published(request.published_bops)
    if request.bisect is not None and bops is None:
        raise SearchError("--bisect: needs a bound to aim at: give --bops")
    return Bound(bops, request.bisect or 0)


def _network(request: Request) -> tuple[nn.Module, tuple[int, int, int]]:
    shape = _shape(request.shape)
    if (request.arch is None) == (request.factory is None):
        raise SearchError("no network, or two: give either --arch or --import")
    if request.arch is not None:
        arch = models.find(request.arch)
        module, shape = arch.build(), shape or arch.shape
    else:
        assert request.factory is not None
        module = import_factory(request.factory)
    if shape is None:
        raise PolicyError("--shape is missing: --import needs it, as C,H,W")
    if request.classes is not None:
        module = with_classes(module, inspect_network(module, shape), request.classes)
    return module, shape


def _shape(given: tuple[int, ...] | None) -> tuple[int, int, int] | None:
    if given is None:
        return None
    if len(given) != 3 or min(given) < 1:
        raise SearchError(f"--shape: got {','.join(map(str, given))}: give C,H,W, as in 3,32,32")
    channels, height, width = given
    return channels, height, width


def _data(
    request: Request, shape: tuple[int, int, int], classes: int
) -> tuple[Labelled, Labelled | None]:
    how = Preprocessing.of((1, *shape), request.input)
    if how.resize is None:
        check_sizes((*request.data, *request.validation), shape)
    data = open_all(request.data, how).spread(request.images)
    check_trainable(data, classes)
    if not request.validation:
        return data, None
    validation = open_all(request.validation, how).spread(request.images)
    check_labels(validation, classes)
    return data, validation


def _deployment(request: Request, info: NetworkInfo, shape: tuple[int, int, int]) -> Deployment:
    fixed = LayerBits(request.fixed_bits, request.fixed_bits)
    if request.deploy is not None:
        arch = models.find(request.deploy)
        layers = inspect_network(arch.build(), arch.shape).layers
        return Deployment(layers, ModelSpec(arch.name), fixed)
    spec = InputSpec((1, *shape), request.mean, request.std, request.resize)
    return Deployment(info.layers, ModelSpec(request.arch, input=spec), fixed)


def _teacher(
    request: Request, settings: Settings, task: Task, progress: Progress
) -> tuple[nn.Module | None, float]:
    """Return the float network, if one is imitated, and the seconds that training it took."""
    if settings.attribution_weight == 0:
        return None, 0.0
    kept = task.work / "teacher.safetensors"
    started = time.monotonic()
    trained = request.teacher is None and not (request.resume and kept.exists())
    if trained:
        recipe = TeacherRecipe(request.teacher_epochs, lr=request.teacher_lr)
        how = (settings.augmentation, settings.seed, settings.device)
        teacher = train_teacher(task.module, TeacherTraining(task.data, recipe, *how), progress)
    else:
        given = kept if request.teacher is None else resolve_weights(request.teacher, Path())
        teacher = load_teacher(task.module, given, settings.device)
    if rank() == 0:
        save_teacher(teacher, kept)
    return teacher, time.monotonic() - started if trained else 0.0


def _provenance(request: Request, found: Found, bill: Bill, teacher_seconds: float) -> Provenance:
    details: dict[str, JSON] = {
        "network": request.arch or request.factory,
        "quantizers": request.quantizers,
        "weight_bits": list(request.weight_bits),
        "activation_bits": list(request.activation_bits),
        "attribution_weight": request.attribution_weight,
        "epochs": request.epochs,
        "teacher_seconds": round(teacher_seconds, 1),
        "published_bops": bill.published(found.bits),
        **figures(found),
    }
    bounds = {"bops": request.bops, "published_bops": request.published_bops}
    return Provenance(
        method=request.method,
        dataset=", ".join(request.data),
        constraint={name: limit for name, limit in bounds.items() if limit is not None} or None,
        seed=request.seed,
        details=details,
    )


def _report(found: Found, info: NetworkInfo, bill: Bill) -> str:
    names = [layer.name for layer in info.searched]
    lines = [(name, str(bits.w), str(bits.a)) for name, bits in zip(names, found.bits, strict=True)]
    outcome = found.outcome
    totals = [
        ("BOPs, all layers at their real bits", _giga(found.bops)),
        ("BOPs, published convention", _giga(bill.published(found.bits))),
        ("BOPs of the largest logits", _giga(outcome.argmax_bops)),
        ("BOPs expected under the logits", _giga(outcome.expected_bops)),
    ]
    if outcome.record is not None:
        totals.append(("right on the training images", f"{100 * outcome.record.accuracy:.1f}%"))
        totals.append(("empty attribution maps", f"{100 * outcome.record.empty_maps:.1f}%"))
    bits = table.render(("layer", "w", "a"), lines)
    return f"{bits}\n\n{table.render(('network', 'found'), totals)}"


def _giga(bops: float) -> str:
    return f"{bops / 1e9:.4f} G"
