"""The commands as processes: exit codes, interruption, a full disk, and how fast they start."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cli.conftest import Desk
from tests.support import native

ROOT = Path(__file__).parents[2]
COMPILE = (
    *("compile", "policy.json", "--import", "tests.cli.networks:small"),
    *("--calibration", "images.npy", "--no-bench", "--out", "out"),
)

ENDINGS = ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129))


def heed_interrupts() -> None:
    """Undo what shells do to their background jobs, which ignore them."""
    for number, _ in ENDINGS:
        signal.signal(number, signal.SIG_DFL)


def start(
    desk: Desk, *arguments: str, limit: int | None = None, **settings: str
) -> subprocess.Popen[str]:
    """Start ``gmpq`` in the desk's folder; no file may grow beyond ``limit`` bytes.

    ``settings`` are variables of its environment.
    """

    def restrict() -> None:
        heed_interrupts()
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.Popen(
        [*native.command(), *arguments],
        cwd=desk.folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=restrict,
    )


def names(desk: Desk) -> set[str]:
    return {path.name for path in desk.folder.iterdir()}


def test_compile_then_verify(desk: Desk) -> None:
    compiling = start(desk, *COMPILE)
    out, err = compiling.communicate()
    assert (compiling.returncode, err) == (0, "")
    assert "tvm" in out
    verifying = start(desk, "verify", "out")
    out, err = verifying.communicate()
    assert (verifying.returncode, err) == (0, "")
    assert "DIFFERENT" not in out


@pytest.mark.parametrize(("number", "code"), ENDINGS, ids=["ctrl-c", "terminate", "hang-up"])
def test_an_interrupted_compile_leaves_nothing(desk: Desk, number: int, code: int) -> None:
    before = names(desk)
    process = start(desk, *COMPILE)
    while names(desk) == before:  # until its unfinished output appears
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.01)
            pytest.fail(f"ended too early: {process.stderr}")
    process.send_signal(number)
    _, err = process.communicate()
    assert process.returncode == code
    assert "Traceback" not in err
    assert names(desk) == before


@pytest.mark.parametrize(("number", "code"), ENDINGS, ids=["ctrl-c", "terminate", "hang-up"])
def test_a_signal_while_an_object_is_deleted_is_not_lost(number: int, code: int) -> None:
    script = f"""
import os, sys, time
from gmpq.cli import entry

class Deleted:
    def __del__(self):
        os.kill(os.getpid(), {number})
        time.sleep(0.1)

def command(*_, **__):
    Deleted()
    time.sleep(60)

entry.group.main = command
entry.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=heed_interrupts,
    )
    assert done.returncode == code
    assert "Traceback" not in done.stderr


def test_the_next_compile_removes_what_a_killed_one_left(desk: Desk) -> None:
    temporary = desk.folder / "tmp"
    temporary.mkdir()
    before = names(desk)
    killed = start(desk, *COMPILE, TMPDIR=str(temporary))
    while not list(temporary.glob("gmpq-scratch-*")):  # it is made after the output's
        with suppress(subprocess.TimeoutExpired):
            killed.wait(0.01)
            pytest.fail(f"ended too early: {killed.stderr}")
    killed.kill()
    killed.communicate()
    assert names(desk) - before
    _, err = start(desk, *COMPILE, TMPDIR=str(temporary)).communicate()
    assert err == ""
    assert names(desk) == before | {"out"}
    assert [path for path in temporary.iterdir() if path.name.startswith("gmpq")] == []


BROKEN = """
import sys
from gmpq.cli import entry

def command(*_, **__):
    raise {error}

entry.group.main = command
entry.main()
"""


def broken(error: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command that raises ``error``, with ``folder`` for temporary files."""
    return subprocess.run(
        [sys.executable, "-c", BROKEN.format(error=error), "verify", "out"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"TMPDIR": str(folder)},
    )


def test_a_bug_is_told_in_two_lines(tmp_path: Path) -> None:
    done = broken("KeyError('x' * 1000)", tmp_path)
    (report,) = tmp_path.glob("gmpq-bug-*.txt")
    told, where = done.stderr.splitlines()
    assert done.returncode == 70
    assert told.startswith("error: this is a bug in gmpq, please report it: KeyError: 'xxx")
    assert len(told) < 300
    assert where == f"traceback: {report}"
    text = report.read_text("utf-8")
    assert text.startswith("-c verify out\ngmpq ")
    assert "Traceback (most recent call last)" in text
    assert "KeyError" in text


def test_what_a_users_network_raises_is_no_bug(desk: Desk) -> None:
    (desk.folder / "mine.py").write_text(
        "class Broken(Exception):\n    pass\n\ndef net():\n    raise Broken('no config')\n", "utf-8"
    )
    words = ("compile", "policy.json", "--import", "mine:net", "--calibration", "images.npy")
    process = start(desk, *words, PYTHONPATH=f"{ROOT}:{desk.folder}")
    _, err = process.communicate()
    assert process.returncode == 2
    place = f"{desk.folder}/mine.py, line 5"
    assert err == f"error: {place} raises Broken: no config: mend the network's code\n"


def test_memory_that_is_short_is_no_bug(tmp_path: Path) -> None:
    done = broken("MemoryError", tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: not enough memory: ")
    assert done.stderr.count("\n") == 1


def test_output_that_nobody_reads(desk: Desk) -> None:
    script = f"{sys.executable} -m gmpq.cli --help | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=True, cwd=desk.folder
    )
    assert (done.stdout, done.stderr) == ("141\n", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device is always full")
def test_output_that_cannot_be_written() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "gmpq.cli", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            cwd=ROOT,
        )
    assert done.returncode == 2
    assert done.stderr == "error: No space left on device\n"


@pytest.mark.parametrize("limit", [1_000, 30_000], ids=["first-file", "library"])
def test_a_full_disk_leaves_nothing(desk: Desk, limit: int) -> None:
    before = names(desk)
    process = start(desk, *COMPILE, limit=limit)
    _, err = process.communicate()
    assert process.returncode == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert names(desk) == before


def modules_after(statement: str) -> set[str]:
    """Return the top-level modules that Python holds after ``statement``."""
    script = f"{statement}\nimport sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import gmpq, gmpq.ir, gmpq.policy.file, gmpq.numerics, gmpq.backends.reference",
        "import gmpq.cli",
        "import gmpq.runtime",
    ],
    ids=["core", "cli", "runtime"],
)
def test_light_modules_import_nothing_heavy(statement: str) -> None:
    heavy = {"torch", "onnx", "onnxruntime", "tvm", "PIL", "safetensors"}
    assert modules_after(statement).isdisjoint(heavy)


def test_the_bare_package_needs_no_dependency() -> None:
    assert modules_after("import gmpq").isdisjoint({"numpy", "click", "torch"})


def test_help_has_an_example(desk: Desk) -> None:
    result = desk.gmpq("compile", "--help")
    assert result.code == 0
    assert "gmpq-compile examples/" in result.out
    for command in ("verify", "bench", "explain"):
        assert f"gmpq {command} " in desk.gmpq(command, "--help").out
    assert desk.gmpq("--version").code == 0
    assert desk.gmpq().code == 2


def test_explain_tells_layers_costs_and_kernels(desk: Desk) -> None:
    own = ("--import", "tests.cli.networks:small")
    layers = desk.gmpq("explain", "policy.json", *own)
    assert layers.code == 0
    assert [line.split() for line in layers.out.splitlines()][2:] == [
        ["stem", "8", "8"],
        ["body", "3", "4"],
        ["head", "8", "8"],
    ]
    costs = desk.gmpq("explain", "policy.json", "--costs", *own)
    assert "BOPs, published convention" in costs.out
    desk.write_policy(lambda policy: policy["layers"].pop("head"))
    unfit = desk.gmpq("explain", "policy.json", *own)
    assert 'the policy does not fit: layer "head" of the network' in unfit.out
    desk.write_policy(lambda _: None)
    compiled = desk.compile("--explain")
    assert compiled.code == 0
    for word in ("BOPs", "kernel", "quantize", "equal", "model.onnx"):
        assert word in compiled.out
