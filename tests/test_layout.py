"""The layout holds: all folders are packaged, imports point one way, libraries have a home."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINKED = ("calib", "export", "backends")  # they stand at the top and are linked into gmpq/

# A module imports from its own layer or from one above it in this list; longer names win.
LAYERS = (
    ("gmpq", "gmpq.errors", "gmpq.numerics", "gmpq.locations", "gmpq.table", "gmpq.progress"),
    ("gmpq.untrusted", "gmpq.temporary"),
    ("gmpq.ir", "gmpq.policy", "gmpq.policy_io", "gmpq.strict_json", "gmpq.schema"),
    ("gmpq.typed_json",),
    ("gmpq.manifest", "gmpq.description", "gmpq.shared_library", "gmpq.loading", "gmpq.runtime"),
    (
        "gmpq.spec",
        "gmpq.spec_types",
        "gmpq.spec_windows",
        "gmpq.backends.base",
        "gmpq.backends.reference",
        "gmpq.models",
    ),
    ("gmpq.arrays", "gmpq.photographs"),
    ("gmpq.passes", "gmpq.calib", "gmpq.cost", "gmpq.data", "gmpq.qat.quantizers"),
    ("gmpq.lower", "gmpq.training"),
    ("gmpq.calib.collect", "gmpq.calib.sweep"),  # they run the lowered network
    ("gmpq.export", "gmpq.backends"),
    ("gmpq.accuracy", "gmpq.conditions", "gmpq.graph_fields"),
    ("gmpq.parity", "gmpq.output_parity", "gmpq.latency", "gmpq.staging", "gmpq.serialize"),
    ("gmpq.samples", "gmpq.job", "gmpq.programs", "gmpq.explain", "gmpq.compile_options"),
    ("gmpq.contents",),
    ("gmpq.compile", "gmpq.output", "gmpq.evaluate", "gmpq.qat", "gmpq.board", "gmpq.fleet"),
    ("gmpq.search",),
    ("gmpq.cli",),
)
HOMES = {
    "torch": (
        "gmpq.models",
        "gmpq.lower",
        "gmpq.calib",
        "gmpq.qat",
        "gmpq.search",
        "gmpq.accuracy.measure",
        "gmpq.training",
        "gmpq.backends.torch_codes",
    ),
    "onnx": ("gmpq.export", "gmpq.backends.ort", "gmpq.programs"),
    "onnxruntime": ("gmpq.export", "gmpq.backends.ort"),
    "tvm": ("gmpq.backends.tvm",),
    "tvm_ffi": ("gmpq.backends.tvm", "gmpq.backends.rpc.worker"),
    "scipy": ("gmpq.search",),
    "matplotlib": ("gmpq.search.picture",),
}


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


def layer(module: str) -> int:
    named = [
        (len(package), index)
        for index, packages in enumerate(LAYERS)
        for package in packages
        if within(module, package) and (package != "gmpq" or module == "gmpq")
    ]
    assert named, f"{module} has no place in LAYERS"
    return max(named)[1]


def test_the_wheel_holds_every_folder() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    folders = {name for name, path in SOURCES.items() if path.name == "__init__.py"}
    assert sorted(settings["packages"]) == sorted(folders)
    assert settings["package-dir"] == {f"gmpq.{folder}": folder for folder in LINKED}
    for folder in LINKED:
        assert (ROOT / "gmpq" / folder).readlink() == Path("..") / folder


@pytest.mark.parametrize("module", SOURCES)
def test_imports_point_one_way(module: str) -> None:
    wrong = [
        name
        for name in imports(SOURCES[module])
        if within(name, "gmpq") and name != "gmpq" and layer(name) > layer(module)
    ]
    assert wrong == []


@pytest.mark.parametrize("module", SOURCES)
def test_heavy_libraries_have_a_home(module: str) -> None:
    wrong = [
        name
        for name in imports(SOURCES[module])
        for library, homes in HOMES.items()
        if within(name, library) and not any(within(module, home) for home in homes)
    ]
    assert wrong == []
