"""``gmpq bench --tracker`` and ``gmpq board``: what they print, and one line for every mistake."""

from __future__ import annotations

import json
import re
import signal
import socket
from pathlib import Path

import pytest

from gmpq.backends.tvm.emulation import qemu
from gmpq.policy import LayerBits
from gmpq.search.ilp import latency_table
from tests.cli.conftest import Desk
from tests.cli.test_mistakes import refused
from tests.cli.test_processes import start
from tests.support.boards import StartBoard
from tests.support.trackers import Tracker


def test_bench_on_a_board(desk: Desk, tracker: Tracker, start_board: StartBoard) -> None:
    board = start_board(tracker)
    assert desk.compile().code == 0
    where = ("--tracker", str(tracker.address), "--key", "board")
    result = desk.gmpq("bench", "out", *where, "--layers", "--repeat", "4")
    assert (result.code, result.err) == (0, "")
    for word in (f"127.0.0.1:{board.port}: ", "equal", "median ms", "BOPs", "body"):
        assert word in result.out
    silent = desk.gmpq("bench", "out", *where, "--repeat", "0")
    assert "equal" in silent.out
    assert "median ms" not in silent.out


def test_a_compile_tunes_on_a_board(
    desk: Desk, tracker: Tracker, start_board: StartBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(desk.folder / "cache"))
    board = start_board(tracker)
    where = ("--tune", "quick", "--tracker", str(tracker.address), "--key", "board")
    assert desk.compile(*where).code == 0
    first = json.loads((desk.out / "manifest.json").read_text("utf-8"))
    cached = (desk.folder / "cache" / "gmpq" / "kernels.json").read_text()
    assert first["tuned_on"]
    measured = [kernel for kernel in first["kernels"] if kernel["measured_ms"]]
    assert measured  # how many layers have a choice depends on the processor
    for kernel in measured:
        times = kernel["measured_ms"]
        assert len(times) > 1
        assert min(times, key=times.get) == kernel["kernel"]
    board.wait_log("ended after .* s: done", 1 + len(measured))
    assert desk.compile(*where).code == 0
    again = json.loads((desk.out / "manifest.json").read_text("utf-8"))
    assert again["kernels"] == first["kernels"]
    assert (desk.folder / "cache" / "gmpq" / "kernels.json").read_text() == cached
    board.wait_log("ended after .* s: done", 2 + len(measured))  # only asked what it is
    assert desk.compile().code == 0  # predicted cycles choose
    untuned = json.loads((desk.out / "manifest.json").read_text("utf-8"))
    assert untuned["tuned_on"] is None
    assert not any(kernel["measured_ms"] for kernel in untuned["kernels"])


def test_mistakes_of_tuning_on_boards(
    desk: Desk, tracker: Tracker, start_board: StartBoard
) -> None:
    where = ("--tracker", str(tracker.address), "--key", "board")
    refused(desk, desk.compile(*where), "boards measure kernels: give --tune quick or --tune full")
    quick = ("--tune", "quick", *where)
    refused(desk, desk.compile("--tune", "quick", "--key", "board"), "boards need both: --tracker")
    refused(desk, desk.compile(*quick[:4]), "boards need both: --tracker HOST:PORT --key KEY")
    message = "no board of 'board' was free within 1 s: the tracker has no board of that key"
    refused(desk, desk.compile(*quick, "--deadline", "1"), message)
    start_board(tracker, "--emulated", "cortex-a72")
    message = "an emulated board measures no time: give the --key of real ones, or compile with"
    refused(desk, desk.compile(*quick), message)
    refused(desk, desk.compile(*quick, target="rpi4"), "the program for aarch64: compile for its")


def test_boards_that_are_half_named(desk: Desk) -> None:
    message = "boards need both: --tracker HOST:PORT --key KEY"
    refused(desk, desk.gmpq("bench", "out", "--key", "rpi4"), message)
    refused(desk, desk.gmpq("bench", "out", "--tracker", "a:1"), message)
    refused(desk, desk.gmpq("bench", "out", "--tracker", "a", "--key", "k"), "give HOST:PORT")


def test_no_tracker_and_no_board(desk: Desk, tracker: Tracker) -> None:
    assert desk.compile().code == 0
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{unused.getsockname()[1]}"
        result = desk.gmpq("bench", "out", "--tracker", nobody, "--key", "board")
    assert result.code == 2
    assert f"error: tracker {nobody}: cannot be reached" in result.err
    where = ("--tracker", str(tracker.address), "--key", "board", "--deadline", "1")
    result = desk.gmpq("bench", "out", *where)
    assert result.code == 2
    assert "error: no board of 'board' was free within 1 s: the tracker has" in result.err
    assert result.err.count("\n") == 1


def test_mistakes_of_building(desk: Desk) -> None:
    refused(desk, desk.gmpq("board", "build", "--target", "rpi6"), "target 'rpi6' is unknown")
    Path("wheels").mkdir()
    words = ("board", "build", "--target", "rpi4", "-o", "out", "--wheels", "wheels")
    refused(desk, desk.gmpq(*words), "wheels: holds no apache_tvm-")
    result = desk.gmpq("board", "build", "--target", "rpi4", "-o", "images.npy")
    assert "is not a directory: choose another" in result.err


def test_mistakes_of_emulating(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("board", "emulate", "--cpu", "cortex-a72", "--tracker", "a:1", "--key", "rpi4")
    monkeypatch.setattr(qemu.shutil, "which", lambda _: None)
    refused(desk, desk.gmpq(*words), "cannot emulate cortex-a72: to emulate arm64: apt-get install")
    refused(desk, desk.gmpq("board", "emulate", "--cpu", "x"), "Missing option '--tracker'")


PROFILE = ("profile", "policy.json", "--import", "tests.cli.networks:small", "--target", "native")


def test_a_profile_is_a_latency_table(
    desk: Desk, tracker: Tracker, start_board: StartBoard
) -> None:
    start_board(tracker)
    result = desk.gmpq(
        *(*PROFILE, "--calibration", "images.npy", "-o", "times.json", "--repeat", "3"),
        *("--tracker", str(tracker.address), "--key", "board"),
        *("--weight-bits", "2,4", "--input-bits", "4"),
    )
    assert (result.code, result.out, result.err) == (0, "times.json: native\n", "")
    table = latency_table.read(Path("times.json"))
    pairs = {name: set(times) for name, times in table.layers.items()}
    wide = {LayerBits(8, 8)}
    assert pairs == {"stem": wide, "body": {LayerBits(2, 4), LayerBits(4, 4)}, "head": wide}
    assert all(time > 0 for times in table.layers.values() for time in times.values())
    on = json.loads(Path("times.json").read_text("utf-8"))["measured_on"]
    assert "1 thread, gmpq" in on[0]
    assert re.match(r"127\.0\.0\.1:\d+: .* x \d+", on[1])


def test_mistakes_of_profiling(desk: Desk, tracker: Tracker) -> None:
    where = ("--tracker", str(tracker.address), "--key", "board", "--deadline", "1")
    refused(desk, desk.gmpq(*PROFILE, "-o", "out"), "give --tracker HOST:PORT and --key KEY")
    refused(desk, desk.gmpq(*PROFILE, "-o", "no/out", *where), "there is no folder no: make it")
    refused(desk, desk.gmpq(*PROFILE, "-o", "out", *where), "no calibration images: give")
    calibrated = (*PROFILE, "-o", "out", "--calibration", "images.npy", "--weight-bits", "4")
    message = "w4a4 was not measured: no board of 'board' was free within 1 s"
    refused(desk, desk.gmpq(*calibrated, "--input-bits", "4", *where), message)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "terminate"]
)
def test_an_interrupted_bench_frees_its_board(
    number: int, code: int, desk: Desk, tracker: Tracker, start_board: StartBoard
) -> None:
    board = start_board(tracker)
    assert desk.compile().code == 0
    where = ("--tracker", str(tracker.address), "--key", "board", "--repeat", "100000")
    process = start(desk, "bench", "out", *where)
    board.wait_log("served by process")
    process.send_signal(number)
    _, err = process.communicate()
    assert process.returncode == code
    assert "Traceback" not in err
    board.wait_log("ended after")
    assert board.children() == []


def test_help_has_examples(desk: Desk) -> None:
    for words in (("bench",), ("profile",), ("board", "build"), ("board", "emulate")):
        assert f"gmpq {' '.join(words)} " in desk.gmpq(*words, "--help").out
