"""``gmpq finetune``; what it needs is imported when it runs, so that ``--help`` answers at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gmpq.cli.options import field_option, grouped
from gmpq.cli.renamed import RenamedOptions
from gmpq.cli.types import PATH
from gmpq.qat.options import FinetuneOptions, TrainOptions

if TYPE_CHECKING:
    from gmpq.inputs.compile_inputs import Sources

EXAMPLE = """\b
Examples:
  gmpq finetune policy.json --data photographs/train --validation photographs/val -o tuned
  gmpq-compile tuned/policy.json --calibration photographs/val --out tuned-native
  torchrun --nproc-per-node 2 -m gmpq.cli finetune policy.json --data train.npz -o tuned
"""


TRAINING = (
    field_option(TrainOptions, "method", help="How activation scales train: lsq or pact."),
    field_option(TrainOptions, "epochs"),
    field_option(TrainOptions, "batch", help="Images per step, over all processes."),
    field_option(TrainOptions, "optimizer", help="sgd or adam."),
    field_option(TrainOptions, "lr", help="Peak learning rate; cosine decay follows."),
    field_option(TrainOptions, "momentum"),
    field_option(TrainOptions, "weight_decay", help="On layer weights only."),
    field_option(TrainOptions, "warmup", help="Epochs of linear warm-up."),
    field_option(TrainOptions, "smoothing", help="Label smoothing."),
    field_option(TrainOptions, "distill", help="Share of the distillation loss."),
    field_option(TrainOptions, "temperature", help="Of the distillation."),
    field_option(TrainOptions, "crop", help="Random crops."),
    field_option(TrainOptions, "flip", help="Random horizontal flips."),
    field_option(
        TrainOptions,
        "patience",
        type=click.IntRange(1),
        help="Stop after this many epochs without a better validation accuracy.",
    ),
    field_option(
        TrainOptions, "hold_out", help="Share of --data that validates without --validation."
    ),
    field_option(
        TrainOptions,
        "calibration_images",
        type=click.IntRange(1),
        help="Images that initialize the scales.",
    ),
    field_option(
        TrainOptions,
        "reestimate",
        type=click.IntRange(0),
        help="Batches that re-estimate batch-norm statistics after an epoch; 0 keeps running "
        "averages.",
    ),
    field_option(TrainOptions, "seed"),
)
RUN = (
    field_option(
        FinetuneOptions,
        "workers",
        type=click.IntRange(0, 256),
        help="Threads that read photographs ahead.",
    ),
    field_option(
        FinetuneOptions,
        "threads",
        type=click.IntRange(1, 256),
        help="Torch threads; with 1 a training is repeated bit for bit.",
    ),
    field_option(FinetuneOptions, "device", help="cpu or cuda."),
    field_option(FinetuneOptions, "resume", help="Continue from the last epoch's checkpoint."),
)
DATA = (
    click.option("--data", required=True, metavar="LOCATION", help="Folder of classes, or .npz."),
    click.option(
        "--validation",
        metavar="LOCATION",
        help="Labelled images that validate.  [default: part of --data]",
    ),
)
SOURCES = (
    click.argument("policy", type=PATH),
    click.option("--weights", help="Float weights: a file, package:NAME/PATH, or random[:SEED]."),
    click.option("--import", "factory", metavar="MODULE:FACTORY", help="Your own network."),
)


class FinetuneCommand(RenamedOptions):
    """``--calibration`` is a location everywhere; here it was a number of images."""

    def renamed(self, option: str) -> str | None:
        """Return what ``option`` is called now; None if it is unknown."""
        return "--calibration-images" if option == "--calibration" else super().renamed(option)


def _sources(policy: Path, weights: str | None, factory: str | None) -> Sources:
    from gmpq.inputs.compile_inputs import Sources

    return Sources(policy, weights, factory)


def _data(data: str, validation: str | None) -> tuple[str, str | None]:
    return data, validation


def _options(
    workers: int, threads: int | None, device: str, resume: bool, **training: Any
) -> FinetuneOptions:
    return FinetuneOptions(TrainOptions(**training), resume, workers, threads, device)


@click.command(cls=FinetuneCommand, epilog=EXAMPLE)
@grouped("sources", _sources, SOURCES)
@grouped("data", _data, DATA)
@click.option("-o", "--out", type=PATH, required=True, help="Directory to write.")
@grouped("options", _options, (*TRAINING, *RUN))
def finetune(
    sources: Sources, data: tuple[str, str | None], out: Path, options: FinetuneOptions
) -> None:
    """Train the network of POLICY at its bits, to recover the accuracy that few bits cost.

    The directory OUT holds policy.json, weights.safetensors, the integer graph and log.jsonl, and
    appears when training is done. Until then OUT.training holds the last checkpoint.
    """
    from gmpq.cli.terminal import Terminal
    from gmpq.progress import Silent
    from gmpq.qat import finetune as work
    from gmpq.training.processes import joined, rank

    with joined():
        found = work.finetune(sources, data, options, out, Silent() if rank() else Terminal())
        if rank() == 0:
            click.echo(f"{out}: validation accuracy {found.accuracy:.2%} of the integer graph")
