"""Where this process is while a function runs again and again, by Linux's perf.

A timer interrupts the process some thousand times a second and notes the instruction that it is at;
the processor's own counters, which virtual machines often lack, are not needed.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import click

HERTZ = 3999  # about perf's own, and never in step with what runs every millisecond


def sampled(run: Callable[[], object], seconds: float) -> list[int]:
    """Return the addresses at which the timer met the process, in some ``seconds``.

    Raises:
        click.ClickException: perf is not installed, or may not look.
    """
    with tempfile.TemporaryDirectory(prefix="gmpq-samples-") as folder:
        data = Path(folder) / "perf.data"
        attach = ["--pid", str(os.getpid()), "--output", str(data)]
        every = ["--event", "cpu-clock:u", "--freq", str(HERTZ)]
        waiting = ["--", "sleep", str(seconds)]  # perf records until that ends
        recorder = _perf("record", "--quiet", *every, *attach, *waiting)
        while recorder.poll() is None:
            run()
        _checked(recorder)
        reader = _perf("script", "--input", str(data), "--fields", "ip")
        return [int(word, 16) for word in _checked(reader).split()]


def _perf(*arguments: str) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            ["perf", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    except FileNotFoundError as error:
        raise click.ClickException("perf: apt-get install linux-perf") from error


def _checked(process: subprocess.Popen[str]) -> str:
    """Return what a process wrote."""
    out, complaint = process.communicate()
    if process.returncode != 0:
        first = complaint.strip().splitlines()[:1] or ["ended without a word"]
        raise click.ClickException(f"perf: {first[0]}")
    return out
