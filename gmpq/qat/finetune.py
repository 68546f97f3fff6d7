"""A policy and float weights become trained weights and the integer graph that they mean.

    report = finetune(Sources(Path("policy.json")), ("train.npz", None), options, Path("tuned"))

The directory holds ``policy.json``, ``weights.safetensors``, ``graph.safetensors`` and
``log.jsonl``; compiling its policy compiles that very graph. It appears when training is done.
Until then ``tuned.training`` holds the last checkpoint and the log.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from gmpq.artifact.staging import check_replaceable, staged
from gmpq.backends.torch_codes import TorchCodes
from gmpq.errors import OutputError, TrainingError
from gmpq.files import manifest, saved_graph
from gmpq.inputs.compile_inputs import Network, Sources, open_network
from gmpq.inputs.images import Images, Preprocessing
from gmpq.ir import IntGraph
from gmpq.lower.network import Trainable, lower_trainable
from gmpq.passes import cost
from gmpq.policy import LayerBits, Policy, bind
from gmpq.policy import file as policy_file
from gmpq.progress import Progress, Silent
from gmpq.qat import scales
from gmpq.qat.build import InitialState, build
from gmpq.qat.emit import to_integer_graph
from gmpq.qat.fit import LOG, TrainingRun, fit
from gmpq.qat.network import QatNetwork
from gmpq.qat.options import FinetuneOptions, TrainOptions
from gmpq.qat.weights import Owners, find_owners, write_back
from gmpq.training.data import (
    Labelled,
    check_labels,
    check_trainable,
    classes_of,
    open_labelled,
    split,
)
from gmpq.training.processes import rank, world_size
from gmpq.training.scores import scores_of

POLICY, WEIGHTS, GRAPH = "policy.json", "weights.safetensors", "graph.safetensors"
CALIBRATION_BATCH = 32
DEVICES = ("cpu", "cuda")


@dataclass(frozen=True, slots=True, eq=False)
class Finetuned:
    """What training has come to."""

    graph: IntGraph
    history: list[dict[str, Any]]  # one row per epoch
    accuracy: float  # of the integer graph on the validation images


@dataclass(frozen=True, slots=True, eq=False)
class _Opened:
    """What is known before training."""

    policy: Policy
    folder: Path  # of the policy
    network: Network
    lowered: Trainable
    owners: Owners
    bits: dict[str, LayerBits]
    train: Labelled
    val: Images


def finetune(
    sources: Sources,
    data: tuple[str, str | None],
    options: FinetuneOptions,
    out: Path,
    progress: Progress | None = None,
) -> Finetuned:
    """Train the network of ``sources`` at its policy's bits and write the directory ``out``.

    Args:
        sources: the policy, and weights or a factory that the command line gives.
        data: where training images are, and where validation images are, if they are apart.
        options: how to train.
        out: the directory to write.
        progress: receives the stages and warnings.

    Raises:
        GmpqError: a mistake of the user, as one line; ``out`` is not written then.
    """
    progress = progress or Silent()
    place = check_replaceable(out)
    device = _device(options)
    opened = _open(sources, data, options.training, progress)
    folder = place.with_name(f"{place.name}.training")
    run = _training_run(opened, options, folder, device)
    with _claimed(folder, options.resume):
        progress.stage("calibrating")
        network = _initial_network(opened, options.training)
        history = fit(network, run, options.resume, progress)
    graph = to_integer_graph(network.cpu())
    accuracy = integer_accuracy(graph, opened.val)
    if rank() == 0:
        with staged(out) as work:
            _write(opened, network, graph, work, place)
            shutil.copy(folder / LOG, work / LOG)
            manifest.write(work, {"options": asdict(options.training)}, manifest.TRAINED)
        shutil.rmtree(folder, ignore_errors=True)
    return Finetuned(graph, history, accuracy)


def integer_accuracy(graph: IntGraph, images: Images, batch: int = 64) -> float:
    """Return the share of ``images`` whose largest class score of ``graph`` is the label."""
    program, (source,), scores = TorchCodes(graph), graph.inputs, scores_of(graph)
    right, start = 0, 0
    for inputs in images.batches(batch):
        found = program.run({source: inputs})[scores].argmax(1)
        right += int((found == images.labels[start : start + len(found)]).sum())
        start += len(found)
    return right / len(images.items)


def _open(
    sources: Sources, data: tuple[str, str | None], options: TrainOptions, progress: Progress
) -> _Opened:
    policy = policy_file.read(sources.policy)
    network = open_network(policy, sources)
    progress.stage(f"reading {network.name}")
    lowered = lower_trainable(network.module, network.shape, network.name)
    outputs = classes_of(lowered.graph)
    if len(lowered.graph.outputs) > 1:
        progress.stage(f"training by output '{scores_of(lowered.graph)}'")
    bits = bind(policy, cost.layer_names(lowered.graph))
    owners = find_owners(network.module, lowered)
    how = Preprocessing.of(network.shape, policy.model.input)
    train, val = _read(data, how, options)
    for line in dict.fromkeys((*network.warnings, *train.ignored, *val.ignored)):
        progress.warn(line)
    check_trainable(train, outputs)
    check_labels(val, outputs)
    folder = sources.policy.parent
    return _Opened(policy, folder, network, lowered, owners, bits, train, val.inputs())


def _read(
    data: tuple[str, str | None], how: Preprocessing, options: TrainOptions
) -> tuple[Labelled, Labelled]:
    train = open_labelled(data[0], how)
    if data[1] is None:
        return split(train, options.hold_out, options.seed)
    return train, open_labelled(data[1], how, train)


def _device(options: FinetuneOptions) -> torch.device:
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    if options.device not in DEVICES:
        raise TrainingError(f"--device {options.device}: use {' or '.join(DEVICES)}")
    if options.device == "cuda" and not torch.cuda.is_available():
        raise TrainingError("--device cuda: torch finds no CUDA device here: use --device cpu")
    return torch.device(options.device)


def _training_run(
    opened: _Opened, options: FinetuneOptions, folder: Path, device: torch.device
) -> TrainingRun:
    if options.training.batch % world_size():
        raise TrainingError(
            f"--batch {options.training.batch}: must be a multiple of the {world_size()} processes"
        )
    return TrainingRun(
        opened.train,
        opened.val,
        options.training,
        folder,
        opened.network.module.to(device),
        device,
        options.workers,
    )


@contextmanager
def _claimed(folder: Path, resume: bool) -> Iterator[None]:
    """Make the folder of checkpoints; it goes again if the block fails before there is one.

    Raises:
        TrainingError: an earlier training is there, and is not to be resumed.
        OutputError: the folder cannot be made.
    """
    if rank():
        yield
        return
    if folder.exists() and not resume:
        raise TrainingError(
            f"{folder}: holds an unfinished training: give --resume, or remove the folder"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror}") from error
    try:
        yield
    finally:
        with suppress(OSError):
            folder.rmdir()  # which spares what holds a checkpoint


def _initial_network(opened: _Opened, options: TrainOptions) -> QatNetwork:
    order = np.random.default_rng(options.seed).permutation(len(opened.train))
    chosen = opened.train.take(order[: options.calibration_images]).inputs()
    batches = [torch.from_numpy(batch) for batch in chosen.batches(CALIBRATION_BATCH)]
    initial = InitialState(
        make_scale=scales.find(options.method), output_bits=opened.policy.output_bits
    )
    return build(opened.lowered, opened.bits, batches, initial)


def _write(opened: _Opened, network: QatNetwork, graph: IntGraph, work: Path, place: Path) -> None:
    """Write to ``work`` what will be at ``place``."""
    state = write_back(opened.network.module.cpu(), network, opened.owners)
    model = replace(opened.policy.model, weights=WEIGHTS, quantized=GRAPH)
    named = opened.policy.calibration
    calibration = None if named is None else named.seen_from(place, opened.folder)
    policy = replace(opened.policy, model=model, calibration=calibration)
    policy_file.write(policy, work / POLICY)
    (work / WEIGHTS).write_bytes(save(state))
    saved_graph.save(graph, work / GRAPH)
