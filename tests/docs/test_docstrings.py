"""Docstrings of functions on arrays state shapes, and cite documents that are here.

A function is held to it if it is public, as are its class and its module (no name begins with an
underscore), and an annotation, of a parameter or of what it returns, mentions arrays: ``NDArray``,
``ndarray``, ``torch.Tensor``, or an alias of a type that mentions them. Its docstring, up to the
errors that it lists, then has one of

- axes in square brackets that follow no name, which would be an index: "[N, C, H, W]", "[]";
- the word shape, shapes or shaped: "of any shape", "in the graph's shapes";
- the word scalar or scalars.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache

import pytest

from tests.support.documents import ROOT

LINKED = ("calib", "export", "backends")  # they stand at the top and are linked into gmpq/
ARRAYS = frozenset({"NDArray", "ndarray", "np.ndarray", "torch.Tensor"})
NOT_ARRAYS = frozenset(
    {
        # The name of a value, whose shape the graph holds, or a constant. The docstrings of what
        # takes it are the table of docs/operators.md, which says what shapes an operator has.
        ("gmpq.lower.call", "Operand"),
    }
)
STATED = re.compile(r"(?<![\w\])])\[[^\[\]]*\]|\bshape[sd]?\b|\bscalars?\b")
DOCUMENT = re.compile(r"[\w/.-]+\.md\b")

Known = Mapping[str, frozenset[str]]  # names of types that mention arrays, by module
Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def modules() -> dict[str, ast.Module]:
    """Return all modules of the package by dotted name, as far as they are public."""
    found = {}
    for folder in ("gmpq", *LINKED):
        for path in sorted((ROOT / folder).glob("**/*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            dotted = ".".join(parts if folder == "gmpq" else ("gmpq", *parts))
            module = dotted.removesuffix(".__init__")
            if "._" not in module:
                found[module] = ast.parse(path.read_text("utf-8"))
    return found


def mentioned(annotation: ast.expr) -> set[str]:
    """Return the names in an annotation, also those with a module's before them."""
    nodes = ast.walk(annotation)
    return {ast.unparse(node) for node in nodes if isinstance(node, ast.Name | ast.Attribute)}


def assigned(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Yield the names that a module gives to what may be types, ``a``, ``a[b]`` or ``a | b``."""
    for node in tree.body:
        match node:
            case (
                ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
                | ast.Assign(targets=[ast.Name(id=name)], value=value)
            ) if isinstance(value, ast.Name | ast.Attribute | ast.Subscript | ast.BinOp):
                yield name, value


def imported(tree: ast.Module, known: Known) -> Iterator[str]:
    """Yield the names of types that mention arrays that a module imports, or their modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            for alias in node.names:
                called = alias.asname or alias.name
                if alias.name in known.get(node.module, ()):
                    yield called
                for name in known.get(f"{node.module}.{alias.name}", ()):
                    yield f"{called}.{name}"


def array_types() -> Known:
    """Return the names of types that mention arrays, by module."""
    known: Known = dict.fromkeys(modules(), ARRAYS)
    while True:
        found = {}
        for module, tree in modules().items():
            own = {name for name, value in assigned(tree) if known[module] & mentioned(value)}
            own -= {name for place, name in NOT_ARRAYS if place == module}
            found[module] = known[module] | own
            found[module] |= {name for name in imported(tree, known) if name.count(".") < 2}
        if found == known:
            return found
        known = found


def public(body: list[ast.stmt], place: str) -> Iterator[tuple[str, Function]]:
    """Yield the public functions and methods in ``body`` with their places."""
    for node in body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{place}.{node.name}")
            else:
                yield f"{place}.{node.name}", node


def annotated(function: Function) -> list[ast.expr]:
    """Return the annotations of what a function takes and returns."""
    given = function.args
    parameters = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    found = [each.annotation for each in parameters if each] + [function.returns]
    return [annotation for annotation in found if annotation]


@cache
def on_arrays() -> dict[str, Function]:
    """Return all public functions whose annotations mention arrays, by place."""
    known = array_types()
    return {
        place: function
        for module, tree in modules().items()
        for place, function in public(tree.body, module)
        if any(known[module] & mentioned(each) for each in annotated(function))
    }


def states_shapes(docstring: str) -> bool:
    """Return whether a docstring says what shapes arrays have."""
    return STATED.search(docstring.partition("Raises:")[0]) is not None


def test_functions_on_arrays_state_shapes() -> None:
    docstrings = {place: ast.get_docstring(node) for place, node in on_arrays().items()}
    silent = [place for place, found in docstrings.items() if not states_shapes(found or "")]
    assert silent == []


@pytest.mark.parametrize(
    "place",
    [
        "gmpq.numerics.requantize",  # by NDArray, through an alias
        "gmpq.backends.reference.convolve",  # by an alias behind its module's name
        "gmpq.backends.tvm.host.HostProgram.run",  # by an imported alias, within a mapping
        "gmpq.qat.norm.Norm.forward",  # by torch.Tensor
        "gmpq.search.ilp.solver.loss_of",
    ],
)
def test_the_rule_reaches(place: str) -> None:
    assert place in on_arrays()


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        pytest.param("Return codes [N, C, H, W].", True, id="axes"),
        pytest.param("Return the scale [] of codes.", True, id="no-axes"),
        pytest.param("Return ``x``, of any shape.", True, id="any-shape"),
        pytest.param("Return a scalar.", True, id="scalar"),
        pytest.param("Return ``x[i]`` of ``max(x, 0)``.", False, id="index"),
        pytest.param("Return x.\n\nRaises:\n    ValueError: a wrong shape.", False, id="errors"),
    ],
)
def test_what_states_shapes(docstring: str, expected: bool) -> None:
    assert states_shapes(docstring) is expected


def test_docstrings_cite_documents_that_are_here() -> None:
    cited = {
        (module, name)
        for module, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | Function)
        for name in DOCUMENT.findall(ast.get_docstring(node) or "")
    }
    assert {(module, name) for module, name in cited if not (ROOT / name).is_file()} == set()
