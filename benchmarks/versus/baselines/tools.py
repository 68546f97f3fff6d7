"""The programs of the other tools, each opened by its own module."""

from __future__ import annotations

from importlib import metadata

import click

from gmpq.errors import install_extra
from versus.bench import Bench
from versus.entry import Entry

PACKAGES = ("gmpq", "apache-tvm", "onnxruntime", "openvino", "nncf", "ai-edge-litert", "torch")


def open_baseline(tool: str, bench: Bench, threads: int) -> list[Entry]:
    """Return the programs of a baseline; of several, the fastest counts.

    Raises:
        click.UsageError: its package is not installed, or the network does not fit it.
    """
    try:
        return _open(tool, bench, threads)
    except ModuleNotFoundError as error:
        raise click.UsageError(
            f"{tool} needs {error.name}: leave it out of --tools, or {install_extra('bench')}"
        ) from error


def versions() -> str:
    """Return the installed packages that take part, with their versions."""
    installed = {found.name.lower(): found.version for found in metadata.distributions()}
    return ", ".join(f"{name} {installed[name]}" for name in PACKAGES if name in installed)


def _open(tool: str, bench: Bench, threads: int) -> list[Entry]:
    match tool:
        case "ort-int8":
            from versus.baselines import onnxruntime_tool

            return onnxruntime_tool.open_int8(bench, threads)
        case "ort-fp32":
            from versus.baselines import onnxruntime_tool

            return onnxruntime_tool.open_float(bench, threads)
        case "openvino-int8":
            from versus.baselines import openvino_tool

            return openvino_tool.open_int8(bench, threads)
        case "openvino-fp32":
            from versus.baselines import openvino_tool

            return openvino_tool.open_float(bench, threads)
        case "litert-int8":
            from versus.baselines import litert_tool

            return litert_tool.open_int8(bench, threads)
        case _:
            raise AssertionError(f"{tool} is not a baseline")
