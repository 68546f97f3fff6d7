"""The tables of the study, and its picture."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path

from accuracy.journal import Journal, name_of
from accuracy.plan import (
    EDMIPS,
    GMPQ,
    LEVELS,
    LIMPQ,
    METHODS,
    SENSITIVITY,
    TRANSFERRED,
    UNIFORM,
    Cell,
)
from pictures import panels
from versus.rows import to_markdown

Header = tuple[str, ...]
Lines = list[tuple[str, ...]]
SEARCHES = (GMPQ, EDMIPS, LIMPQ, SENSITIVITY)


def report(journal: Journal, cells: Sequence[Cell]) -> str:
    """Return all tables as Markdown; ``cells`` are done."""
    tables = [
        *(
            (f"Policies of at most the BOPs of w{n}a{n}", accuracies(journal, cells, n))
            for n in LEVELS
        ),
        ("Above uniform bits, all cells", differences(journal, cells)),
        ("Searched on the other data set instead, all cells", transfer(journal, cells)),
        ("Seconds of one thread", costs(journal, cells)),
    ]
    return "\n\n".join(f"{title}:\n\n{to_markdown(*table)}" for title, table in tables)


def accuracies(journal: Journal, cells: Sequence[Cell], level: int) -> tuple[Header, Lines]:
    """Return the mean and the spread of the accuracy over seeds, a row per method."""
    groups = list(_groups(cells))
    header = ("bits", *(f"{dataset}, {arch}" for (dataset, arch), _ in groups))
    floats = [
        [float(journal.found[name_of(cell)]["accuracy"]) for cell in own] for _, own in groups
    ]
    lines = [("float", *map(_spread, floats))]
    for method in METHODS:
        reached = [[_reached(journal, cell, method, level) for cell in own] for _, own in groups]
        lines.append((method, *map(_spread, reached)))
    return header, lines


def differences(journal: Journal, cells: Sequence[Cell]) -> tuple[Header, Lines]:
    """Return how far each method is above uniform bits, in points, over all cells."""
    header = ("bits", *(f"{n} bits: {what}" for n in LEVELS for what in ("points", "better in")))
    lines = []
    for method in METHODS[1:]:
        row = [method]
        for n in LEVELS:
            gains = [
                _reached(journal, cell, method, n) - _reached(journal, cell, UNIFORM, n)
                for cell in cells
            ]
            row += _gains(gains)
        lines.append(tuple(row))
    return header, lines


def transfer(journal: Journal, cells: Sequence[Cell]) -> tuple[Header, Lines]:
    """Return how far bits that were searched on the other data set fall behind, in points."""
    header = ("bits", *(f"{n} bits: {what}" for n in LEVELS for what in ("points", "better in")))
    lines = []
    for method in TRANSFERRED:
        row = [method]
        for n in LEVELS:
            gains = [
                journal.accuracy(cell, journal.policies(cell.other)[method][n])
                - _reached(journal, cell, method, n)
                for cell in cells
            ]
            row += _gains(gains)
        lines.append(tuple(row))
    return header, lines


def costs(journal: Journal, cells: Sequence[Cell]) -> tuple[Header, Lines]:
    """Return the mean seconds of the float network, each search, and one finetuning."""
    groups = list(_groups(cells))
    rows: list[tuple[str, Callable[[Cell], float]]] = [
        ("float network", lambda cell: journal.found[name_of(cell)]["float_seconds"]),
        *((method, _search_seconds(journal, method)) for method in SEARCHES),
        ("one finetuning", lambda cell: _tuning(journal, cell)),
    ]
    lines = [
        (name, *(f"{statistics.mean(map(seconds, own)):.0f}" for _, own in groups))
        for name, seconds in rows
    ]
    return ("", *(f"{dataset}, {arch}" for (dataset, arch), _ in groups)), lines


def plot(journal: Journal, cells: Sequence[Cell], path: Path) -> None:
    """Draw every accuracy, a panel per data set and network, into ``path``."""
    groups = list(_groups(cells))
    with panels(path, len(groups), 3.2) as axes:
        for panel, ((dataset, arch), own) in zip(axes, groups, strict=True):
            for n, color in zip(LEVELS, ("tab:blue", "tab:orange"), strict=True):
                points = [
                    (100 * _reached(journal, cell, method, n), row)
                    for cell, (row, method) in product(own, enumerate(METHODS))
                ]
                shift = 0.12 * (-1 if n == LEVELS[0] else 1)
                x, y = zip(*points, strict=True)
                panel.scatter(x, [each + shift for each in y], s=18, color=color, label=f"{n} bits")
            panel.set(title=f"{dataset}\n{arch}", xlabel="right, %")
            panel.set_yticks(range(len(METHODS)), METHODS if panel is axes[0] else [])
            panel.invert_yaxis()
            panel.grid(axis="x", alpha=0.3)
        axes[0].legend(fontsize="small")


def _reached(journal: Journal, cell: Cell, method: str, level: int) -> float:
    return journal.accuracy(cell, journal.policies(cell)[method][level])


def _search_seconds(journal: Journal, method: str) -> Callable[[Cell], float]:
    return lambda cell: float(journal.found[name_of(cell)]["search_seconds"][method])


def _tuning(journal: Journal, cell: Cell) -> float:
    bits = journal.policies(cell)[UNIFORM][LEVELS[0]]
    return float(journal.found[name_of(cell, bits)]["seconds"])


def _groups(cells: Sequence[Cell]) -> Iterator[tuple[tuple[str, str], list[Cell]]]:
    """Yield the cells of each data set and network, which differ in their seed."""
    names = dict.fromkeys((cell.dataset.name, cell.arch) for cell in cells)
    for name in names:
        yield name, [cell for cell in cells if (cell.dataset.name, cell.arch) == name]


def _spread(shares: Iterable[float]) -> str:
    """Return mean ± standard deviation, in per cent."""
    each = [100 * share for share in shares]
    deviation = f" ± {statistics.stdev(each):.1f}" if len(each) > 1 else ""
    return f"{statistics.mean(each):.1f}{deviation}"


def _gains(gains: Sequence[float]) -> tuple[str, str]:
    """Return mean ± standard error in points, and in how many of the cells it is a gain."""
    points = [100 * gain for gain in gains]
    error = statistics.stdev(points) / len(points) ** 0.5 if len(points) > 1 else 0.0
    better = sum(gain > 0 for gain in gains)
    return f"{statistics.mean(points):+.2f} ± {error:.2f}", f"{better} of {len(gains)}"
