"""The report of every epoch: a line of JSON in the log, and a line for the progress bar."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from gmpq.errors import OutputError


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """One epoch; losses are means over its batches."""

    epoch: int  # counted from 1
    loss: float
    cross_entropy: float
    attribution: float
    complexity: float
    power: float  # of the float network's maps
    accuracy: float  # on the training images as they were seen
    validation_accuracy: float | None
    empty_maps: float  # of all maps, of either network
    expected_bops: float
    argmax_bops: int
    seconds: float
    eta_seconds: float


def write(record: EpochRecord, path: Path) -> None:
    """Append ``record`` to the log ``path``; raises ``OutputError``."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(record), allow_nan=False) + "\n")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from error


def show(record: EpochRecord | None) -> str:
    """Return ``record`` as the progress bar shows it; empty before the first."""
    if record is None:
        return ""
    return (
        f", loss {record.loss:.3f}, {100 * record.accuracy:.1f}% right, "
        f"expected {record.expected_bops / 1e9:.4g} G, argmax {record.argmax_bops / 1e9:.4g} G, "
        f"{_duration(record.eta_seconds)} left"
    )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
