"""What a machine is, from the text of /proc/cpuinfo."""

from __future__ import annotations

import pytest

from gmpq.backends.host import Host, describe, host, system

XEON = """\
processor\t: 0
model name\t: Intel(R) Xeon(R) Processor
flags\t\t: fpu lm pni sse4_1 bmi1 avx2 avx512f avx512_vnni amx_int8

processor\t: 1
model name\t: Intel(R) Xeon(R) Processor
flags\t\t: fpu
"""
PI = "processor\t: 0\nFeatures\t: fp asimd asimddp\n\nModel\t\t: Raspberry Pi 5\n"
WIDE = ("avx512f", "avx512bw", "avx512dq", "avx512vl")


def test_a_processor_and_its_features() -> None:
    found = describe(XEON, "x86_64")
    assert (found.processor, found.cores) == ("Intel(R) Xeon(R) Processor", 2)
    assert found.integer_features() == ("avx2", "avx512_vnni", "amx_int8")
    named = ("x87", "64bit", "sse3", "sse4.1", "bmi", "avx512vnni", "amx-int8")
    assert found.lacking((*named, "bmi2", "adx")) == ["adx", "bmi2"]
    board = describe(PI, "aarch64")
    assert (board.processor, board.integer_features()) == ("Raspberry Pi 5", ("asimd", "asimddp"))


def test_a_machine_that_tells_nothing() -> None:
    found = describe("", "riscv64")
    assert (found.processor, found.integer_features()) == ("riscv64", ())
    assert found.cores >= 1


def test_this_machine_is_described() -> None:
    assert host().cores >= 1
    assert "Linux" in system()


@pytest.mark.parametrize(
    ("machine", "flags", "expected"),
    [
        pytest.param("x86_64", ("avx2",), True, id="avx2"),
        pytest.param("x86_64", ("avx2", "avx_vnni"), False, id="avx-vnni"),
        pytest.param("x86_64", ("avx2", *WIDE), True, id="avx512"),
        pytest.param("x86_64", ("avx2", *WIDE, "avx_vnni"), True, id="avx512-masks-avx-vnni"),
        pytest.param("x86_64", ("avx2", *WIDE, "avx512_vnni"), False, id="avx512-vnni"),
        pytest.param("x86_64", (), True, id="unknown"),
        pytest.param("aarch64", ("asimd",), False, id="arm"),
    ],
)
def test_where_pairs_of_products_may_saturate(
    machine: str, flags: tuple[str, ...], expected: bool
) -> None:
    assert Host(machine, "any", 1, frozenset(flags)).saturates() is expected
