"""Results: one row per network, policy, threads and tool; tables of them, and JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from gmpq import table
from versus.names import GMPQ, INT8_BASELINES

Case: TypeAlias = tuple[str, int, str]  # network, threads, bits


@dataclass(frozen=True, slots=True)
class Row:
    """What one tool needs for one run of a network."""

    network: str
    bits: str
    threads: int
    tool: str
    variant: str
    median_ms: float
    min_ms: float
    p90_ms: float
    runs: int
    processor_ms: float  # of all threads, in one run
    cores: float  # processor time over wall time
    quiet: float  # share of the runs while nobody else computed; these count, if there are enough
    all_ms: float  # median of all runs, disturbed or not
    exact: bool | None  # of gmpq: every code equals the reference
    bops: int | None  # of gmpq: all layers at their real bits
    published_bops: float | None
    share_3x3: float | None = None  # of the peak: the fields of ``versus.shares.Shares``, of gmpq
    share_all: float | None = None
    share_time: float | None = None
    steps_ms: float | None = None
    workspace_bytes: int | None = None
    live_bytes: int | None = None
    stack_bytes: int | None = None
    moved_bytes: int | None = None

    @property
    def case(self) -> Case:
        """What the row is compared within."""
        return self.network, self.threads, self.bits


def to_json(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Return the rows as plain values."""
    return [asdict(row) for row in rows]


def fastest(rows: Iterable[Row]) -> list[Row]:
    """Return the fastest row of each tool, of each case: what a tool offers at its best."""
    best: dict[tuple[Case, str], Row] = {}
    for row in rows:
        known = best.get((row.case, row.tool))
        if known is None or row.median_ms < known.median_ms:
            best[row.case, row.tool] = row
    return list(best.values())


def ratio(rows: Sequence[Row]) -> float | None:
    """Return the time of the best int8 baseline over that of gmpq, within the rows of one case."""
    mine = [row.median_ms for row in rows if row.tool == GMPQ]
    baselines = [row.median_ms for row in rows if row.tool in INT8_BASELINES]
    return min(baselines) / mine[0] if mine and baselines else None


def summary(rows: Sequence[Row]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return header and cells of the table of medians, a line per case."""
    tools = list(dict.fromkeys(row.tool for row in rows))
    costs = ("BOPs", "published")
    header = ("network", "threads", "bits", *costs, *tools, "best int8 baseline / gmpq", "exact")
    lines = []
    for case in dict.fromkeys(row.case for row in rows):
        found = [row for row in rows if row.case == case]
        by_tool = {row.tool: row for row in found}
        mine = by_tool.get(GMPQ)
        times = [f"{by_tool[tool].median_ms:.3f}" if tool in by_tool else "-" for tool in tools]
        network, threads, bits = case
        bops = or_dash(None if mine is None else mine.bops, _giga)
        published = or_dash(None if mine is None else mine.published_bops, _giga)
        speed = or_dash(ratio(found), lambda r: f"{r:.2f}")
        exact = or_dash(None if mine is None else mine.exact, lambda e: "yes" if e else "NO")
        lines.append((network, str(threads), bits, bops, published, *times, speed, exact))
    return header, lines


def details(rows: Sequence[Row]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return header and cells of the table of spreads, a line per row."""
    numbers = ("median ms", "min", "p90", "processor ms", "cores", "runs", "quiet", "all runs ms")
    header = ("tool", "what runs", "network", "threads", *numbers)
    lines = [
        (
            row.tool,
            row.variant,
            row.network,
            str(row.threads),
            *(f"{ms:.3f}" for ms in (row.median_ms, row.min_ms, row.p90_ms, row.processor_ms)),
            f"{row.cores:.2f}",
            str(row.runs),
            f"{row.quiet:.0%}",
            f"{row.all_ms:.3f}",
        )
        for row in rows
    ]
    return header, list(dict.fromkeys(lines))  # baselines run once for all policies


def to_text(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table for the terminal."""
    return table.render(header, lines)


def to_markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table for a document; the first column is to the left, others right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *lines))


def _giga(count: float) -> str:
    return f"{count / 1e9:.1f} G"


def or_dash(value: Any, text: Callable[[Any], str]) -> str:
    """Return ``text`` of a value, a dash for None."""
    return "-" if value is None else text(value)
