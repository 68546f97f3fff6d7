"""docs/operators.md lists the table of rules, with the conditions of their docstrings."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

from gmpq.lower.rules import CURES, DOCUMENT, OPERATORS, RULES, Rule

ROOT = Path(__file__).parents[2]
BEGIN, END = "<!-- made from gmpq/lower/rules.py: {} -->\n\n", "\n<!-- end -->"


def row(rule: Rule) -> str:
    names = [
        str(overload).removeprefix("aten.") for overload, found in RULES.items() if found == rule
    ]
    first, _, conditions = (inspect.getdoc(rule) or "").partition("\n\n")
    assert first.startswith("Lower "), rule
    what = first.removeprefix("Lower ").partition(";")[0].partition(":")[0].rstrip(".")
    listed = ", ".join(f"`{name.removesuffix('.default')}`" for name in names)
    return f"| {listed} | {what.replace('``', '`')} | {' '.join(conditions.split())} |"


def operators() -> str:
    rows = [row(rule) for rule in dict.fromkeys(RULES.values())]
    return "\n".join(("| ATen operator | what | conditions |", "|---|---|---|", *rows)) + "\n"


def cures() -> str:
    rows = [f"| `{name}` | {cure} |" for name, cure in sorted(CURES.items())]
    return "\n".join(("| ATen operator | instead |", "|---|---|", *rows)) + "\n"


def with_table(text: str, name: str, table: str) -> str:
    """Return ``text`` with ``table`` in the place that ``name`` marks."""
    before, begin, rest = text.partition(BEGIN.format(name))
    _, end, after = rest.partition(END)
    assert begin, f"{DOCUMENT} marks no place for {name}"
    assert end, f"{DOCUMENT} marks no end of {name}"
    return f"{before}{begin}{table}{end}{after}"


def test_the_document_is_that_of_the_table(matches_golden: Callable[[str, str], None]) -> None:
    text = (ROOT / DOCUMENT).read_text("utf-8")
    text = with_table(text, "operators", operators())
    matches_golden(f"../../{DOCUMENT}", with_table(text, "cures", cures()))


def test_no_operator_with_a_rule_has_a_cure() -> None:
    assert not OPERATORS & CURES.keys()
