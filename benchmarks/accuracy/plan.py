"""What the study compares: data sets, networks, seeds, levels of BOPs and ways to choose bits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product

from accuracy.sources import DATASETS, Dataset
from gmpq.search.ilp.candidates import BITS as BITS  # that every search chooses from

LEVELS = (3, 4)  # bits of the uniform policy whose BOPs every policy of the level may spend
FLOAT, UNIFORM, RANDOM = "float", "uniform", "random"
GMPQ, EDMIPS, LIMPQ, REVERSED = "gmpq", "gmpq, no attribution", "limpq", "limpq reversed"
SENSITIVITY = "sensitivity"
METHODS = (UNIFORM, RANDOM, GMPQ, EDMIPS, LIMPQ, REVERSED, SENSITIVITY)
TRANSFERRED = (GMPQ, LIMPQ)  # policies that are tried on the other data set too


@dataclass(frozen=True, slots=True)
class StudySettings:
    """How much is trained; the epochs are over ``sizes["train"]`` images."""

    sizes: Mapping[str, int] = field(
        default_factory=lambda: {"train": 2400, "val": 240, "test": 1200}
    )
    batch: int = 64
    float_epochs: int = 12
    float_lr: float = 0.1
    tune_epochs: int = 1
    tune_lr: float = 0.02
    reestimate: int = 8  # batches
    gmpq_epochs: int = 2
    gmpq_lr: float = 0.02
    gmpq_logits_lr: float = 0.1  # ten times the published one: training is shorter by about as much
    gmpq_complexity: float = 1e-5  # small: the bound on BOPs is met by assigning bits
    limpq_epochs: int = 1
    sensitivity_images: int = 128


@dataclass(frozen=True, slots=True)
class Cell:
    """One network on one data set, from one seed."""

    dataset: Dataset
    arch: str
    seed: int

    @property
    def name(self) -> str:
        """A name for files."""
        return f"{self.dataset.name}-{self.arch}-{self.seed}"

    @property
    def other(self) -> Cell:
        """The cell of the other data set."""
        (dataset,) = (each for each in DATASETS if each is not self.dataset)
        return Cell(dataset, self.arch, self.seed)


def cells(archs: tuple[str, ...], seeds: int) -> Iterator[Cell]:
    """Yield all cells, seeds last: what is done when time ends is comparable."""
    for seed, arch, dataset in product(range(seeds), archs, DATASETS):
        yield Cell(dataset, arch, seed)
