"""The layout holds: all folders are packaged, imports point one way, libraries have a home."""

from __future__ import annotations

import ast
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINKED = ("calib", "export", "backends")  # they stand at the top and are linked into gmpq/

# A module imports from its own folder and from those above it in this list.
FOLDERS = (
    "gmpq",
    "gmpq.files",
    "gmpq.policy",
    "gmpq.runtime",
    "gmpq.models",
    "gmpq.inputs",
    "gmpq.backends",
    "gmpq.calib",
    "gmpq.passes",
    "gmpq.lower",
    "gmpq.export",
    "gmpq.backends.ort",
    "gmpq.backends.rpc",
    "gmpq.backends.rpc.server",
    "gmpq.backends.tvm",
    "gmpq.backends.tvm.target",
    "gmpq.backends.tvm.kernels",
    "gmpq.backends.tvm.kernels.cpu.isa",
    "gmpq.backends.tvm.kernels.cpu.epilogue",
    "gmpq.backends.tvm.kernels.cpu.bitserial",
    "gmpq.backends.tvm.kernels.cpu.depthwise",
    "gmpq.backends.tvm.kernels.cpu.direct",
    "gmpq.backends.tvm.kernels.cpu.elementwise",
    "gmpq.backends.tvm.kernels.cpu.gemv",
    "gmpq.backends.tvm.kernels.cpu.winograd",
    "gmpq.backends.tvm.kernels.cpu",
    "gmpq.backends.tvm.kernels.gpu.isa",
    "gmpq.backends.tvm.kernels.gpu.epilogue",
    "gmpq.backends.tvm.kernels.gpu.direct",
    "gmpq.backends.tvm.kernels.gpu.elementwise",
    "gmpq.backends.tvm.kernels.gpu.mma",
    "gmpq.backends.tvm.kernels.gpu",
    "gmpq.backends.tvm.plan",
    "gmpq.backends.tvm.codegen",
    "gmpq.backends.tvm.tuning",
    "gmpq.backends.tvm.emulation.cuda",
    "gmpq.backends.tvm.emulation",
    "gmpq.accuracy",
    "gmpq.artifact",
    "gmpq.compile",
    "gmpq.boards",
    "gmpq.training",
    "gmpq.qat.quantizers",
    "gmpq.qat",
    "gmpq.search",
    "gmpq.search.ilp",
    "gmpq.search.indicators",
    "gmpq.search.differentiable",
    "gmpq.search.latency",
    "gmpq.cli",
)
KERNELS = ("gmpq.backends.tvm.kernels.cpu", "gmpq.backends.tvm.kernels.gpu")
SHARED = (  # the other folders are families
    *KERNELS,
    *(f"{device}.{shared}" for device in KERNELS for shared in ("isa", "epilogue")),
)
DEVICE_FREE = ("gmpq.backends.tvm.kernels", "gmpq.backends.tvm.plan")
HOMES = {  # of heavy libraries, with the folders in them
    "torch": (
        "gmpq.models",
        "gmpq.lower",
        "gmpq.calib",
        "gmpq.qat",
        "gmpq.search",
        "gmpq.accuracy",
        "gmpq.training",
        "gmpq.backends",
    ),
    "onnx": ("gmpq.export", "gmpq.backends.ort", "gmpq.artifact"),
    "onnxruntime": ("gmpq.backends.ort",),
    "tvm": ("gmpq.backends.tvm",),
    "tvm_ffi": ("gmpq.backends.tvm", "gmpq.backends.rpc"),
    "scipy": ("gmpq.search",),
    "matplotlib": ("gmpq.search",),
}
MOST_FILES, MOST_LINES, MOST_FUNCTION_LINES = 20, 300, 40


def sources() -> dict[str, Path]:
    """Return the file of every module by its dotted name."""
    found = {}
    for path in sorted(ROOT.glob("gmpq/**/*.py")) + [
        path for folder in LINKED for path in sorted((ROOT / folder).rglob("*.py"))
    ]:
        parts = path.relative_to(ROOT).with_suffix("").parts
        parts = parts if parts[0] == "gmpq" else ("gmpq", *parts)
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


SOURCES = sources()


def imports(path: Path) -> Iterator[str]:
    """Yield the names of all modules that a file imports, but for types only."""
    tree = ast.parse(path.read_text("utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            dotted = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in SOURCES else node.module for name in dotted)


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def of_kernels(module: str) -> bool:
    """Return whether a module is of a kind of device."""
    return any(within(module, device) for device in KERNELS)


def folder(module: str) -> str:
    return module if SOURCES[module].name == "__init__.py" else module.rpartition(".")[0]


def imported_folders(module: str) -> set[str]:
    """Return the folders of this package that a module imports from, but its own."""
    names = {name for name in imports(SOURCES[module]) if within(name, "gmpq") and name != "gmpq"}
    return {folder(name) for name in names} - {folder(module)}


def python_files() -> list[Path]:
    """Return all files of the repository that are written in Python."""
    folders = ("gmpq", *LINKED, "tests", "benchmarks", "examples")
    return [path for name in folders for path in sorted((ROOT / name).rglob("*.py"))]


def test_the_wheel_holds_every_folder() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    folders = {name for name, path in SOURCES.items() if path.name == "__init__.py"}
    assert sorted(settings["packages"]) == sorted(folders)
    assert settings["package-dir"] == {f"gmpq.{folder}": folder for folder in LINKED}
    for folder in LINKED:
        assert (ROOT / "gmpq" / folder).readlink() == Path("..") / folder


def test_every_folder_has_one_line() -> None:
    assert sorted(FOLDERS) == sorted({folder(module) for module in SOURCES})


@pytest.mark.parametrize("module", SOURCES)
def test_imports_point_one_way(module: str) -> None:
    above = FOLDERS[: FOLDERS.index(folder(module))]
    assert imported_folders(module) - set(above) == set()


@pytest.mark.parametrize("module", [name for name in SOURCES if of_kernels(name)])
def test_no_kernel_family_imports_another(module: str) -> None:
    families = {name for name in FOLDERS if of_kernels(name)} - set(SHARED)
    if folder(module) not in KERNELS:  # which have the lists of them
        assert imported_folders(module) & families == set()


@pytest.mark.parametrize("module", [name for name in SOURCES if of_kernels(name)])
def test_kernels_of_one_kind_of_device_know_no_other(module: str) -> None:
    (other,) = (device for device in KERNELS if not within(module, device))
    assert [name for name in imported_folders(module) if within(name, other)] == []


@pytest.mark.parametrize("module", [m for m in SOURCES if folder(m) in DEVICE_FREE])
def test_the_contract_and_the_planner_know_no_device_but_the_list_of_its_families(
    module: str,
) -> None:
    allowed = set(KERNELS) if module == "gmpq.backends.tvm.plan.registry" else set()
    assert {name for name in imported_folders(module) if of_kernels(name)} <= allowed


def test_folders_and_files_are_small() -> None:
    files = python_files()
    counts = Counter(path.parent for path in files)
    assert {path: count for path, count in counts.items() if count > MOST_FILES} == {}
    lines = {path: len(path.read_text("utf-8").splitlines()) for path in files}
    assert {path: count for path, count in lines.items() if count > MOST_LINES} == {}


def test_functions_are_short() -> None:
    long = [
        (str(path.relative_to(ROOT)), node.name)
        for path in python_files()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= MOST_FUNCTION_LINES
    ]
    assert long == []


@pytest.mark.parametrize("module", SOURCES)
def test_heavy_libraries_have_a_home(module: str) -> None:
    wrong = [
        name
        for name in imports(SOURCES[module])
        for library, homes in HOMES.items()
        if within(name, library) and not any(within(folder(module), home) for home in homes)
    ]
    assert wrong == []
