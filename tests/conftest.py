"""Golden files, and the same random examples in every run."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from gmpq.errors import TargetError
from tests.support import native
from tests.support.boards import server as server
from tests.support.boards import start_board as start_board
from tests.support.boards import tracker as tracker

GOLDEN = Path(__file__).parent / "golden"

settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="write what the tests find into tests/golden"
    )
    parser.addoption(
        "--native", metavar="TARGET", help="what native is, of all targets that run on this machine"
    )


def pytest_configure(config: pytest.Config) -> None:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # for tests that import onnxruntime themselves
    name = config.getoption("--native")
    if name is None:
        return
    try:
        native.narrow(name)
    except (TargetError, ValueError) as error:
        raise pytest.UsageError(f"--native: {error}") from error


@pytest.hookimpl(trylast=True)  # after the order has become random
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the slow tests, so that no worker waits at the end for the other's."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish() -> None:
    """Keep the collector from walking through torch and TVM again and again: 14% of the time."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def matches_golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Return a check that a text equals the golden file of a name."""
    update = bool(request.config.getoption("--update-golden"))

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if update:
            path.write_text(text, encoding="utf-8")
        assert path.read_text(encoding="utf-8") == text

    return check
