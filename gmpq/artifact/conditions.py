"""What times were measured on, so that they mean something elsewhere and later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from gmpq.backends.host import host, system
from gmpq.files.manifest import versions

MEASURED = ("gmpq", "onnxruntime", "apache-tvm")  # the tools whose programs run


@dataclass(frozen=True, slots=True)
class Conditions:
    """The machine, the moment and the settings of a measurement."""

    processor: str
    cores: int
    features: tuple[str, ...]  # that integer products are made by, as Linux names them
    system: str
    date: str  # ISO 8601, UTC
    threads: int
    versions: Mapping[str, str]
    settings: Mapping[str, str]  # by backend


def of(threads: int, settings: Mapping[str, str]) -> Conditions:
    """Return the conditions of a measurement that starts now, on this machine."""
    here = host()
    return Conditions(
        here.processor,
        here.cores,
        here.integer_features(),
        system(),
        today(),
        threads,
        versions(),
        dict(settings),
    )


def today() -> str:
    """Return the moment, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def to_text(found: Conditions) -> str:
    """Return the conditions in two lines, to stand above a table of times."""
    features = " ".join(found.features) or "no integer dot products"
    machine = f"{found.processor}, {found.cores} cores ({features}), {found.system}"
    settings = [f"{backend}: {setting}" for backend, setting in found.settings.items()]
    when = moment(found.date, found.threads, found.versions)
    return f"on {machine}\n" + "; ".join([when, *settings])


def moment(date: str, threads: int, tools: Mapping[str, str]) -> str:
    """Return when and with what it was measured: date, threads, versions."""
    used = [f"{name} {number}" for name, number in tools.items() if name in MEASURED]
    return ", ".join([date, f"{threads} thread{'s' * (threads > 1)}", *used])
