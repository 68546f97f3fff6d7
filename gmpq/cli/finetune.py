"""``gmpq finetune``; what it needs is imported when it runs, so that ``--help`` answers at once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gmpq.cli.types import PATH

if TYPE_CHECKING:
    from gmpq.qat.options import TrainOptions

EXAMPLE = """\b
Examples:
  gmpq finetune policy.json --data photographs/train --val photographs/val -o tuned
  gmpq-compile tuned/policy.json --calibration photographs/val --out tuned-native
  torchrun --nproc-per-node 2 -m gmpq.cli finetune policy.json --data train.npz -o tuned
"""


TRAINING = (
    click.option("--method", default="lsq", show_default=True, help="lsq or pact."),
    click.option("--epochs", default=10, show_default=True),
    click.option("--batch", default=64, show_default=True, help="Images per step, all processes."),
    click.option("--optimizer", default="sgd", show_default=True, help="sgd or adam."),
    click.option("--lr", default=0.01, show_default=True, help="Largest rate; then half a cosine."),
    click.option("--momentum", default=0.9, show_default=True),
    click.option("--weight-decay", default=1e-4, show_default=True, help="Of layers' weights."),
    click.option("--warmup", default=1.0, show_default=True, help="Epochs of rising rate."),
    click.option("--smoothing", default=0.0, show_default=True, help="Of labels."),
    click.option("--distill", default=0.0, show_default=True, help="Share of the float network."),
    click.option("--temperature", default=2.0, show_default=True, help="Of the distillation."),
    click.option("--crop/--no-crop", default=True, show_default=True, help="Crop at random."),
    click.option("--flip/--no-flip", default=True, show_default=True, help="Mirror at random."),
    click.option("--patience", type=click.IntRange(1), help="Epochs without a better accuracy."),
    click.option("--hold-out", default=0.1, show_default=True, help="Held out without --val."),
    click.option(
        "--calibration",
        type=click.IntRange(1),
        default=128,
        show_default=True,
        help="Images that scales start from.",
    ),
    click.option(
        "--reestimate",
        type=click.IntRange(0),
        default=20,
        show_default=True,
        help="Batches that batch norms are measured on after an epoch; 0 keeps running averages.",
    ),
    click.option("--seed", default=0, show_default=True),
)


def training_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the fields of ``TrainOptions``, as one argument ``training``."""

    @functools.wraps(command)
    def run(**given: Any) -> Any:
        from gmpq.qat.options import TrainOptions

        chosen = {field.name: given.pop(field.name) for field in fields(TrainOptions)}
        return command(training=TrainOptions(**chosen), **given)

    for option in reversed(TRAINING):
        run = option(run)
    return run


@click.command(epilog=EXAMPLE)
@click.argument("policy", type=PATH)
@click.option("--data", required=True, metavar="LOCATION", help="Folder of classes, or .npz.")
@click.option("--val", metavar="LOCATION", help="Validation images.  [default: held out]")
@click.option("-o", "--out", type=PATH, required=True, help="Directory to write.")
@click.option("--weights", help="Float weights: a file, package:NAME/PATH, or random[:SEED].")
@click.option("--import", "factory", metavar="MODULE:FACTORY", help="Your own network.")
@training_options
@click.option("--workers", type=click.IntRange(0, 256), default=0, help="Threads that read ahead.")
@click.option("--threads", type=click.IntRange(1, 256), help="Of torch; 1 repeats bit for bit.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--resume", is_flag=True, help="Go on from the last epoch's checkpoint.")
def finetune(
    policy: Path,
    data: str,
    val: str | None,
    out: Path,
    weights: str | None,
    factory: str | None,
    training: TrainOptions,
    workers: int,
    threads: int | None,
    device: str,
    resume: bool,
) -> None:
    """Train the network of POLICY at its bits, so that few bits cost little accuracy.

    The directory OUT holds policy.json, weights.safetensors, the integer graph and log.jsonl, and
    appears when training is done. OUT.training beside it holds the last checkpoint until then.
    """
    from gmpq.cli.terminal import Terminal
    from gmpq.inputs.job import Sources
    from gmpq.progress import Silent
    from gmpq.qat import finetune as work
    from gmpq.training.processes import joined, rank

    options = work.FinetuneOptions(training, resume, workers, threads, device)
    with joined():
        told = Silent() if rank() else Terminal()
        found = work.finetune(Sources(policy, weights, factory), (data, val), options, out, told)
        if rank() == 0:
            click.echo(f"{out}: validation accuracy {found.accuracy:.2%} of the integer graph")
