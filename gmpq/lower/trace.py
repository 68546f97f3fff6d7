"""The seam to ``torch.export``: a module becomes a functional graph of ATen operators."""

from __future__ import annotations

import io
import logging
import operator
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from typing import TypeAlias

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.fx import Graph, Node
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from gmpq.errors import LoweringError
from gmpq.ir import Shape
from gmpq.lower.rules import RULES, aten
from gmpq.models.evaluation import evaluating
from gmpq.models.imports import USER_CODE_ERRORS, first_line, required_inputs

Stack: TypeAlias = dict[str, tuple[str, object]]  # path and kind of the modules around a call
FRESH = frozenset(  # whose result is new memory, never a view
    {
        aten.conv2d.default,
        aten.conv2d.padding,
        aten.linear.default,
        aten.batch_norm.default,
        aten.add.Tensor,
    }
)
PLACE = re.compile(r'^ *File "([^"\n]+)", line (\d+), in ', re.MULTILINE)


def trace(module: nn.Module, shape: Shape) -> ExportedProgram:
    """Return ``module`` in evaluation mode as ATen operators without in-place changes.

    An empty table of decompositions leaves convolutions, linear layers and pooling whole, and
    makes ``relu_`` and ``+=`` functional, with every alias of what they change renamed. That takes
    most of the time, and is left out where all changes in place are of values that nothing else
    reads.

    Raises:
        LoweringError: the module takes several inputs, branches on values, or fails on ``shape``.
    """
    if len(shape) not in (2, 4) or min(shape) < 1:
        raise LoweringError(f"input shape {list(shape)}: expected [N, C, H, W] or [N, F]")
    _check_inputs(module)
    example = (torch.zeros(shape),)
    with evaluating(module), torch.no_grad(), _quiet():
        try:
            program: ExportedProgram = torch.export.export(module, example, strict=False)
            functional = _as_written(program) or _decomposed(program)
        except GuardOnDataDependentSymNode as error:
            raise LoweringError(
                f"{type(module).__name__}: its forward makes Python numbers of a tensor's values"
                f"{_place(error)}, by if, float(), int() or .item(): let it compute with tensors"
            ) from error
        except USER_CODE_ERRORS as error:
            raise LoweringError(
                f"{type(module).__name__}: torch.export fails on one input of shape {shape}: "
                f"{first_line(error)}"
            ) from error
    return functional


def _as_written(program: ExportedProgram) -> ExportedProgram | None:
    """Return ``program`` with functional operators in place of changes that nothing else sees.

    None if it has other changes, or an operator without a rule; no rule is of one that changes its
    input.
    """
    functional: dict[Node, Callable[..., object]] = {}
    unseen: set[object] = set()  # values in memory that their only reader alone reads
    for node in program.graph.nodes:
        if node.op == "call_function":
            alone = next(iter(node.all_input_nodes), None) in unseen
            functional[node] = _without_change(node.target) if alone else node.target
            if functional[node] not in RULES and node.target is not operator.getitem:
                return None
            if len(node.users) == 1 and (alone or node.target in FRESH):
                unseen.add(node)
    for node, target in functional.items():
        node.target = target
    return program


def _without_change(target: Callable[..., object]) -> Callable[..., object]:
    """Return the operator that computes what ``target``, such as ``relu_``, writes in place."""
    if not isinstance(target, torch._ops.OpOverload):
        return target
    name, overload = target._schema.name.removeprefix("aten::"), target._overloadname
    found: Callable[..., object] = getattr(
        getattr(aten, name.removesuffix("_"), None), overload, target
    )
    return found


def _decomposed(program: ExportedProgram) -> ExportedProgram:
    functional: ExportedProgram = program.run_decompositions({})
    _restore_modules(program.graph, functional.graph)
    return functional


def _restore_modules(written: Graph, functional: Graph) -> None:
    """Give the calls of ``functional`` the modules that make the same calls in ``written``.

    A view of what is changed in place is made anew where it is read, and torch then takes the
    reader's module for its own; the line of code that it remembers stays right.
    """
    stacks: dict[str, list[Stack]] = {}
    for node in written.nodes:
        if node.op == "call_function":
            stacks.setdefault(node.meta.get("stack_trace", ""), []).append(_stack(node))
    for node in functional.nodes:
        known = stacks.get(node.meta.get("stack_trace", ""), [])
        if node.op == "call_function" and known and _stack(node) not in known:
            node.meta["nn_module_stack"] = _nearest(known, _stack(node))


def _nearest(known: list[Stack], reader: Stack) -> Stack:
    """Return the innermost of ``known`` that ``reader`` lies in, else the last."""
    around = [stack for stack in known if list(reader.items())[: len(stack)] == list(stack.items())]
    return max(around, key=len, default=known[-1])


def _stack(node: Node) -> Stack:
    stack: Stack = node.meta.get("nn_module_stack", {})
    return stack


def _place(error: GuardOnDataDependentSymNode) -> str:
    """Return the line of the user's code that torch names, if it does."""
    found = PLACE.search(str(error))
    return f" in {found[1]} line {found[2]}" if found else ""


def _check_inputs(module: nn.Module) -> None:
    required = required_inputs(module.forward)
    if len(required) > 1:
        raise LoweringError(
            f"{type(module).__name__}: its forward takes {len(required)} inputs "
            f"({', '.join(required)}): only networks of one input are supported"
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch from printing its own messages in addition to our one line."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
