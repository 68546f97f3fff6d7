from __future__ import annotations

import ctypes
import sys

import pytest

from gmpq.search.ilp.quiet_stdout import quiet_stdout


def test_what_c_prints_is_dropped_and_python_goes_on(capfd: pytest.CaptureFixture[str]) -> None:
    c = ctypes.CDLL(None)
    sys.stdout.write("before\n")
    with quiet_stdout():
        c.puts(b"noise")
    sys.stdout.write("after\n")
    assert capfd.readouterr().out == "before\nafter\n"
