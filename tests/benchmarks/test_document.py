from __future__ import annotations

from pathlib import Path

import click
import pytest

from versus.document import describe, kind_of, replace_block, update

BLOCK = "<!-- begin baselines -->\n\nnew\n\n<!-- end baselines -->"


def test_a_block_replaces_the_old_one_and_nothing_else() -> None:
    old = "# Title\n\nbefore\n\n<!-- begin baselines -->\nold\n<!-- end baselines -->\n\nafter\n"
    assert replace_block(old, "baselines", "new\n") == f"# Title\n\nbefore\n\n{BLOCK}\n\nafter\n"


def test_a_missing_block_is_appended() -> None:
    assert replace_block("# Title\n", "baselines", "new") == f"# Title\n\n{BLOCK}\n"


@pytest.mark.parametrize("text", ["<!-- begin baselines -->", "<!-- end baselines -->"])
def test_half_a_block_is_refused(text: str) -> None:
    with pytest.raises(click.UsageError, match="restore both"):
        replace_block(text, "baselines", "new")


def test_two_blocks_share_a_document(tmp_path: Path) -> None:
    path = tmp_path / "benchmarks.md"
    for name, content in (("baselines", "old"), ("correlation", "0.9"), ("baselines", "new")):
        update(path, name, content)
    text = path.read_text()
    assert text.startswith(f"# Benchmarks\n\n{BLOCK}\n\n<!-- begin correlation -->\n\n0.9\n")
    assert "old" not in text


def test_a_machine_is_its_processor_cores_and_instructions() -> None:
    core = "model name\t: Some CPU\nflags\t\t: fpu avx2 avx512_vnni\n"
    cpuinfo = f"processor\t: 0\n{core}\nprocessor\t: 1\n{core}"
    assert describe(cpuinfo, "x86_64") == "Some CPU, 2 cores, avx2 avx512_vnni"


def test_an_arm_machine_has_no_model_name() -> None:
    cpuinfo = "processor\t: 0\nFeatures\t: fp asimd asimddp\n"
    assert describe(cpuinfo, "aarch64") == "aarch64, 1 cores, asimddp"


@pytest.mark.parametrize(
    ("features", "kind"),
    [
        ("avx2", "avx2"),
        ("avx2 avx_vnni avx512_vnni", "avx512_vnni"),
        ("avx2 avx512_vnni amx_int8", "amx_int8"),
        ("asimddp i8mm", "i8mm"),
        ("", "other"),
    ],
)
def test_the_kind_of_a_processor_is_its_widest_instruction(features: str, kind: str) -> None:
    cpuinfo = f"processor\t: 0\nmodel name\t: Some avx512_vnni CPU\nflags\t\t: fpu {features}\n"
    assert kind_of(cpuinfo) == kind
