"""Scripts write into marked sections, and the summary repeats what these sections say."""

from __future__ import annotations

import pytest

from tests.support.documents import ROOT
from versus.document import replace_block

SECTIONS = [
    *(
        pytest.param("docs/benchmarks.md", name, id=name)
        for name in (
            "baselines avx2",
            "baselines amx_int8",
            "baselines amx_int8 x86-64-v4-vnni",
            "correlation avx2",
        )
    ),
    *(
        pytest.param("docs/benchmarks-arm.md", f"boards-{name}", id=f"boards-{name}")
        for name in ("layers", "shapes", "networks", "exact", "rpc", "tiles")
    ),
    pytest.param("docs/study.md", "study", id="study"),
]


@pytest.mark.parametrize(("document", "name"), SECTIONS)
def test_a_marked_section_is_replaced_and_nothing_else(document: str, name: str) -> None:
    text = (ROOT / document).read_text("utf-8")
    before, _, rest = text.partition(f"<!-- begin {name} -->")
    inside, _, after = rest.partition(f"<!-- end {name} -->")
    assert inside.count("|") > 0
    section = f"<!-- begin {name} -->\n\nnew\n\n<!-- end {name} -->"
    assert replace_block(text, name, "new") == f"{before}{section}{after}"


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_summary_is_of_the_section_below() -> None:
    text = (ROOT / "docs/benchmarks.md").read_text("utf-8")
    summary, _, rest = text.partition("<!-- begin baselines avx2 -->")
    section, _, _ = rest.partition("<!-- end baselines avx2 -->")
    rows = [cells(line) for line in section.splitlines() if line.startswith("| ")]
    measured = {tuple(row[:3]): row for row in rows if len(row) == 13 and row[1].isdigit()}
    found = 0
    for row in (cells(line) for line in summary.splitlines() if line.startswith("| ")):
        if len(row) != 8 or not row[1].isdigit():
            continue
        wide = {bits: measured[row[0], row[1], bits] for bits in ("w8a8", "w4a4", "mixed")}
        assert row[2:5] == [each[5] for each in wide.values()]
        assert row[5:8] == wide["w8a8"][6:9]
        found += 1
    assert found == 6
