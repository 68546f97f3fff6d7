"""What ``native`` means in tests: this machine, or another target that runs on it.

    python -m tests.support.native x86-64-v3 compile policy.json ...

runs ``gmpq`` with such a ``native``; ``pytest --native x86-64-v3`` starts its processes so.
"""

from __future__ import annotations

import os
import sys

from gmpq.backends.tvm.target import cpu, find

VARIABLE = "GMPQ_TESTS_NATIVE"  # tells the processes that tests start


def narrow(name: str) -> None:
    """Make ``native`` the target called ``name``; raises ``TargetError``, or ``ValueError``."""
    found = find(name)
    if not found.runs_here():
        raise ValueError(f"target {name} does not run on this machine")
    cpu.this_machine = lambda _here: found
    os.environ[VARIABLE] = name


def command() -> list[str]:
    """Return the words that start ``gmpq`` in a process with the same ``native``."""
    name = os.environ.get(VARIABLE)
    return [sys.executable, *(("-m", "tests.support.native", name) if name else ("-m", "gmpq.cli"))]


if __name__ == "__main__":
    narrow(sys.argv.pop(1))
    from gmpq.cli import main

    main()
