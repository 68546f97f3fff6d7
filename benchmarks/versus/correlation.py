"""Do fewer BOPs mean fewer milliseconds? Rank correlation, and a picture of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pictures import panels
from versus.names import GMPQ, ORT_QDQ
from versus.rows import Row

POLICIES = 12
STYLES = ((GMPQ, "o", "tab:blue"), (ORT_QDQ, "x", "tab:orange"))


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Return Spearman's rank correlation, in -1..1; ties get their mean rank.

    NaN if all of ``a``, or all of ``b``, are equal.
    """
    x, y = (_ranks(values) for values in (a, b))
    x, y = x - x.mean(), y - y.mean()
    length = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / length if length else float("nan")


def coefficients(rows: Sequence[Row]) -> dict[tuple[str, int], dict[str, float]]:
    """Return the correlation of BOPs and medians by tool, of each network and threads."""
    found: dict[tuple[str, int], dict[str, float]] = {}
    for row in rows:
        key, tool = (row.network, row.threads), row.tool
        if tool not in found.setdefault(key, {}):
            same = [r for r in rows if (r.network, r.threads, r.tool) == (*key, tool)]
            found[key][tool] = spearman([r.bops or 0 for r in same], [r.median_ms for r in same])
    return found


def cells(rows: Sequence[Row]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return header and cells of the table of correlations."""
    header = ("network", "threads", "policies", "Spearman gmpq", "Spearman onnxruntime", "exact")
    lines: list[tuple[str, ...]] = []
    for (network, threads), tools in coefficients(rows).items():
        mine = [r for r in rows if (r.network, r.threads, r.tool) == (network, threads, GMPQ)]
        exact = "yes" if all(row.exact for row in mine) else "NO"
        numbers = (f"{tools[GMPQ]:.3f}", f"{tools[ORT_QDQ]:.3f}")
        lines.append((network, str(threads), str(len(mine)), *numbers, exact))
    return header, lines


def plot(rows: Sequence[Row], path: Path) -> None:
    """Draw BOPs against milliseconds, a panel per network and threads, into ``path``.

    Raises:
        click.UsageError: matplotlib is not installed.
    """
    found = coefficients(rows)
    with panels(path, len(found), 4.5) as axes:
        for panel, ((network, threads), tools) in zip(axes, found.items(), strict=True):
            for tool, marker, color in STYLES:
                same = [
                    r for r in rows if (r.network, r.threads, r.tool) == (network, threads, tool)
                ]
                bops = [(row.bops or 0) / 1e9 for row in same]
                label = f"{tool}, Spearman {tools[tool]:.2f}"
                times = [row.median_ms for row in same]
                panel.scatter(bops, times, marker=marker, color=color, label=label)
            panel.set(title=f"{network}, {threads} thread{'s' * (threads > 1)}")
            panel.set(xlabel="BOPs, G", ylabel="median ms", ylim=(0, None), xlim=(0, None))
            panel.legend(fontsize="small")


def _ranks(values: Sequence[float]) -> NDArray[np.float64]:
    _, inverse, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean: NDArray[np.float64] = last - (counts - 1) / 2
    return mean[inverse]
