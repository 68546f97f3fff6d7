"""A plot of a policy: bars of weight bits up and of input bits down, one pair per layer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gmpq.errors import OutputError, install_extra
from gmpq.policy import LayerBits

WEIGHT, INPUT = "#3b6ea5", "#d98b3a"
INCHES_PER_LAYER = 0.24


def draw_policy(bits: Mapping[str, LayerBits], title: str, path: Path) -> None:
    """Write the plot of ``bits`` to ``path``; its suffix chooses the format (.png, .svg, .pdf).

    Raises:
        OutputError: matplotlib is missing, does not know the format, or cannot write.
    """
    figure = _figure(max(6.0, INCHES_PER_LAYER * len(bits)), 4.2)
    axes = figure.add_subplot()
    places = range(len(bits))
    weights, reads = [b.w for b in bits.values()], [b.a for b in bits.values()]
    bars = [
        axes.bar(places, weights, color=WEIGHT, label="weight"),
        axes.bar(places, [-a for a in reads], color=INPUT, label="input"),
    ]
    for drawn, numbers in zip(bars, (weights, reads), strict=True):
        axes.bar_label(drawn, [str(number) for number in numbers], padding=1, fontsize=7)
    most = max(*weights, *reads) + 1
    axes.set_ylim(-most, most)
    axes.set_yticks([-8, -6, -4, -2, 0, 2, 4, 6, 8], [8, 6, 4, 2, 0, 2, 4, 6, 8])
    axes.set_xlim(-0.7, len(bits) - 0.3)
    axes.set_xticks(places, list(bits), rotation=90, fontsize=7)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_ylabel("bits")
    axes.set_title(title, fontsize=9)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False, fontsize=8)
    try:
        figure.savefig(path, dpi=150, bbox_inches="tight")
    except (OSError, ValueError) as error:
        raise OutputError(f"{path}: cannot be drawn: {error}: use .png, .svg or .pdf") from error


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise OutputError(
            f"pictures need matplotlib, which is not installed: {install_extra('plot')}"
        ) from error
    return Figure(figsize=(width, height))  # without pyplot: no window, no global state
