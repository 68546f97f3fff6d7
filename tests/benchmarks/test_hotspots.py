"""Hot spots: blocks of machine code, what samples say of them, and the table of a network."""

from __future__ import annotations

import platform
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from gmpq.backends.tvm.kernels.base import Work
from gmpq.backends.tvm.plan.plan import Step
from gmpq.policy import LayerBits
from layers import main
from machine import sampler
from machine.machine_code import disassembled, in_blocks, loaded_at
from machine.sampler import sampled
from tests.benchmarks.test_gmpq_tool import subject
from versus import hotspots
from versus.baselines.gmpq_tool import compile_gmpq
from versus.bench import Bench
from versus.hotspots import HEADER, Spot, cells, multiplying, summary
from versus.options import Options
from versus.shares import StepTime

LISTING = """
model.so:     file format elf64-x86-64

0000000000001000 <kernel>:
    1000:	mov    %rdi,%rax
    1003:	vpmaddubsw %ymm1,%ymm0,%ymm3
    1008:	vpaddw %ymm3,%ymm2,%ymm2
    100c:	dec    %rax
    100f:	jne    1003 <kernel+0x3>
    1011:	vcvtdq2ps %ymm2,%ymm2
    1015:	lea    0x30(%rip),%rdx        # 1003 <kernel+0x3>
    101c:	ret
"""
on_x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="reads code of x86_64")


def test_blocks_begin_where_branches_lead_and_after_them() -> None:
    code = in_blocks(LISTING.splitlines())
    assert [(block.start, len(block.names)) for block in code.blocks] == [
        (0x1000, 1),
        (0x1003, 4),
        (0x1011, 3),
    ]
    assert [block.share("vpmaddubsw") for block in code.blocks] == [0.0, 0.25, 0.0]


def test_places_belong_to_the_block_before_them() -> None:
    code = in_blocks(LISTING.splitlines())
    assert [code.at(place) for place in (0xFFF, 0x101D)] == [None, None]
    assert [code.at(place) for place in (0x1000, 0x100F, 0x101C)] == list(code.blocks)


def test_samples_elsewhere_do_not_count() -> None:
    code = in_blocks(LISTING.splitlines())
    places = [0x1003, 0x1008, 0x100F, 0x1011, 0x7FFF_0000]
    assert multiplying(code, places, "vpmaddubsw") == 0.75
    assert multiplying(code, places, "vpdpbusd") == 0.0
    assert multiplying(code, [0x7FFF_0000], "vpmaddubsw") == 0.0


def test_loops_have_the_share_that_their_time_leaves_them() -> None:
    spots = [Spot(StepTime("a", 1.0, 1.0, True, 0.6), 0.75)]
    spots.append(Spot(StepTime("b", 3.0, 3.0, True, 2.4), 0.95))
    assert [spot.loops_share for spot in spots] == pytest.approx([0.8, 0.8 / 0.95])
    text = "3x3 75% of the peak; 90% of their time in multiplying loops, which alone reach 83%"
    assert summary(spots) == text
    assert Spot(StepTime("c", 1.0, 1.0, True, 0.0), 0.5).loops_share is None
    assert Spot(StepTime("c", 1.0, 1.0, True, 0.5), 0.0).loops_share is None
    assert summary([]) == "no 3x3 layers with a known peak"


def test_a_step_is_a_line() -> None:
    step = Step("conv", "y", "direct", "1x2", (), {}, {}, 4e6, Work(1, "vpmaddubsw+vpaddw"))
    line = cells(step, Spot(StepTime("conv", 2.0, 2.0, True, 1.5), 0.8))
    assert line == ("conv", "direct", "1x2", "vpmaddubsw+vpaddw", "2.0000", "75%", "80%", "94%")
    assert len(line) == len(HEADER)


@on_x86
@pytest.mark.skipif(shutil.which("objdump") is None, reason="needs objdump")
def test_samples_of_a_network_lie_in_its_code(tmp_path: Path) -> None:
    found, link = subject(), tmp_path / "link"  # as the folder of temporary files may be one
    link.symlink_to(tmp_path)
    bits = dict.fromkeys(("first", "second"), LayerBits(8, 8))
    compiled = compile_gmpq(Bench(found, tmp_path, link), found.quantized(bits), 1)
    code, base = disassembled(compiled.library), loaded_at(compiled.library)
    multiply = compiled.built.plan.steps[1].work
    assert multiply is not None
    name = multiply.instruction.split("+")[0]
    hot = next(block for block in code.blocks if block.share(name) >= hotspots.LEAST)
    other = next(block for block in code.blocks if not block.share(name))
    met = [base + hot.start, base + hot.start, base + other.start, 1]
    assert multiplying(code, [place - base for place in met], name) == pytest.approx(2 / 3)


@pytest.mark.skipif(shutil.which("perf") is None, reason="needs perf")
def test_the_timer_meets_the_process() -> None:
    runs: list[int] = []
    try:
        places = sampled(lambda: runs.append(sum(range(1000))), 0.2)
    except click.ClickException as error:
        pytest.skip(f"perf may not look: {error.message}")
    assert len(places) > 10
    assert len(runs) > 10


def test_a_missing_tool_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(subprocess, "Popen", missing)
    monkeypatch.setattr(subprocess, "run", missing)
    with pytest.raises(click.ClickException, match="apt-get install linux-perf"):
        sampler.sampled(lambda: None, 0.1)
    with pytest.raises(click.ClickException, match="apt-get install binutils"):
        disassembled(Path("model.so"))


def test_what_perf_says_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(*_: object, **options: object) -> subprocess.Popen[str]:
        return popen(["sh", "-c", "echo no permission >&2; exit 1"], **options)

    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", refusing)
    with pytest.raises(click.ClickException, match="perf: no permission"):
        sampler.sampled(lambda: None, 0.1)


def test_other_processors_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(click.ClickException, match="not of aarch64"):
        hotspots.report(replace(Options(), networks=("resnet18",)))


@pytest.mark.parametrize("arguments", [[], ["--network", "resnet18", "--threads", "2"]])
def test_samples_are_of_one_thread_of_a_network(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, [*arguments, "--sample"])
    assert result.exit_code == 2
    assert "name a --network" in result.output
