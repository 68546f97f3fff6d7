"""What are searched bits worth? GMPQ, LIMPQ and others at equal BOPs, on two data sets.

    python benchmarks/study.py --cifar FOLDER --fashion FOLDER [--out out/study] [--seeds 3]

The first folder holds ``cifar10_jpg_train.tar.xz`` (a folder of JPEG files per class), the second
the training files of Fashion-MNIST (``train-images-idx3-ubyte.gz``, ``train-labels-idx1-ubyte.gz``;
Debian's package dataset-fashion-mnist). For every data set, network and seed a float network is
trained, every method chooses bits, and every policy is finetuned and tested as its integer graph,
in processes of one thread each. Everything found is kept in ``results.jsonl``: a study that was
stopped goes on from there.
"""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import click

from accuracy import report
from accuracy.journal import Journal, Task, run, workers
from accuracy.plan import METHODS, TRANSFERRED, Cell, StudySettings, cells
from accuracy.policies import Work
from accuracy.sources import CIFAR, CIFAR_FILE, DATASETS, FASHION, FASHION_IMAGES, Dataset, split
from gmpq import models
from gmpq.cli.options import field_option, grouped
from gmpq.errors import GmpqError
from versus.document import machine, update

ARCHS = "cifar_resnet8,cifar_resnet8_wide"
FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)


@dataclass(frozen=True, slots=True)
class Plan:
    """Which networks and seeds are compared, and the images of a training."""

    archs: str = ARCHS
    seeds: int = 3
    train: int = 2400


@dataclass(frozen=True, slots=True)
class Reports:
    """Where tables and a picture go, if anywhere."""

    docs: Path | None
    plot: Path | None


def _folders(cifar: Path, fashion: Path) -> dict[Dataset, Path]:
    return {CIFAR: cifar, FASHION: fashion}


SOURCES = (
    click.option("--cifar", type=FOLDER, required=True, help=f"Where {CIFAR_FILE} is."),
    click.option("--fashion", type=FOLDER, required=True, help=f"Where {FASHION_IMAGES} is."),
)
PLAN = (
    field_option(Plan, "archs"),
    field_option(Plan, "seeds", type=click.IntRange(1)),
    field_option(Plan, "train", type=click.IntRange(100), help="Images."),
)
REPORTS = (
    click.option("--docs", type=FILE, help="Put the tables into this document."),
    click.option("--plot", type=FILE, help="Draw all accuracies, as .svg or .png."),
)


@click.command()
@grouped("folders", _folders, SOURCES)
@click.option("--out", type=FOLDER, default="out/study", show_default=True)
@grouped("plan", Plan, PLAN)
@click.option("--processes", type=click.IntRange(1), default=os.cpu_count(), show_default=True)
@grouped("reports", Reports, REPORTS)
def main(
    folders: dict[Dataset, Path], out: Path, plan: Plan, processes: int, reports: Reports
) -> None:
    """Run what is missing of the study, and show its tables."""
    settings = StudySettings({**StudySettings().sizes, "train": plan.train})
    journal = Journal.open(out / "results.jsonl")
    try:
        archs = tuple(plan.archs.split(","))
        for name in archs:
            models.find(name)
        parts = {each: split(each, folders[each], out, dict(settings.sizes)) for each in DATASETS}
        every = list(cells(archs, plan.seeds))
        work = {cell: Work(cell, settings, parts[cell.dataset], out.resolve()) for cell in every}
        with workers(processes) as pool:
            for seed in range(plan.seeds):  # whole seeds: their results are comparable
                own = [cell for cell in every if cell.seed == seed]
                run((Task(work[cell]) for cell in own), journal, pool)
                run(tunings(work, own, journal), journal, pool)
    except GmpqError as error:
        raise click.UsageError(str(error)) from error
    content = f"{about(settings)}\n\n{report.report(journal, every)}"
    click.echo(content)
    if reports.docs is not None:
        update(reports.docs, "study", content)
    if reports.plot is not None:
        report.plot(journal, every, reports.plot)


def tunings(work: dict[Cell, Work], own: list[Cell], journal: Journal) -> list[Task]:
    """Return the finetuning of all policies of ``own``, and of those of the other data set."""
    found = []
    for cell in own:
        mine, others = journal.policies(cell), journal.policies(cell.other)
        for levels in (*(mine[each] for each in METHODS), *(others[each] for each in TRANSFERRED)):
            found += [Task(work[cell], bits) for bits in levels.values()]
    return found


def about(settings: StudySettings) -> str:
    """Return where and how the figures were found."""
    fields = ", ".join(
        f"{key} {value}" for key, value in asdict(settings).items() if key != "sizes"
    )
    sizes = ", ".join(f"{count} {part}" for part, count in settings.sizes.items())
    return "  \n".join(
        (
            f"machine: {machine()}",
            f"date: {datetime.now(UTC).date()}",
            f"images: {sizes}",
            f"settings: {fields}",
            f"command: `python benchmarks/study.py {shlex.join(sys.argv[1:])}`",
        )
    )


if __name__ == "__main__":
    main()
