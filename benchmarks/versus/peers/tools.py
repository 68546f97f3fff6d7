"""The tools that can take part, by the names that ``--tools`` knows."""

from __future__ import annotations

from importlib import metadata

import click

from gmpq.errors import install_extra
from versus.bench import Bench
from versus.contender import Contender

GMPQ = "gmpq"
ORT_INT8, ORT_FP32, ORT_QDQ = "ort-int8", "ort-fp32", "ort-qdq"
OPENVINO_INT8, OPENVINO_FP32 = "openvino-int8", "openvino-fp32"
LITERT_INT8 = "litert-int8"

TOOLS = (GMPQ, ORT_INT8, OPENVINO_INT8, LITERT_INT8, ORT_FP32, OPENVINO_FP32)
INT8_PEERS = (ORT_INT8, OPENVINO_INT8, LITERT_INT8)

PACKAGES = ("gmpq", "apache-tvm", "onnxruntime", "openvino", "nncf", "ai-edge-litert", "torch")


def open_peer(tool: str, bench: Bench, threads: int) -> list[Contender]:
    """Return the programs of a peer; of several, the fastest counts.

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


def _open(tool: str, bench: Bench, threads: int) -> list[Contender]:
    match tool:
        case "ort-int8":
            from versus.peers import onnxruntime_tool

            return onnxruntime_tool.open_int8(bench, threads)
        case "ort-fp32":
            from versus.peers import onnxruntime_tool

            return onnxruntime_tool.open_float(bench, threads)
        case "openvino-int8":
            from versus.peers import openvino_tool

            return openvino_tool.open_int8(bench, threads)
        case "openvino-fp32":
            from versus.peers import openvino_tool

            return openvino_tool.open_float(bench, threads)
        case "litert-int8":
            from versus.peers import litert_tool

            return litert_tool.open_int8(bench, threads)
        case _:
            raise AssertionError(f"{tool} is not a peer")
