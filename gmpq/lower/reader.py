"""The walk over a traced program: constants are computed, calls are lowered, names are given."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch.export import ExportedProgram
from torch.fx import Node

from gmpq.errors import LoweringError
from gmpq.ir import FloatGraph, Graph, Shape, Value
from gmpq.lower.call import Argument, Builder, Call, Operand, Permuted, Shuffled, refusal
from gmpq.lower.outputs import Output, outputs_of
from gmpq.lower.rules import CURES, DOCUMENT, NAMES, OPERATORS, RULES

INPUT = "input"


def read(program: ExportedProgram, shape: Shape, name: str) -> FloatGraph:
    """Return the graph of a traced program, before any pass; its outputs may be one value.

    Raises:
        LoweringError: a call that an output depends on is not supported.
    """
    reader = _Reader(program, _parameters(program))
    reader.bind_inputs(shape)
    outputs = outputs_of(program)
    needed = _ancestors(output.node for output in outputs)
    for node in program.graph.nodes:
        if node in needed and node.op == "call_function":
            reader.visit(node)
    written = tuple(reader.output(output) for output in outputs)
    if set(written) <= {INPUT}:
        raise _not_computed(outputs[0])
    return Graph(name, (INPUT,), written, reader.builder.values, tuple(reader.builder.nodes))


@dataclass(slots=True)
class _Reader:
    program: ExportedProgram
    parameters: Mapping[str, str]  # the path of each parameter and buffer by placeholder
    builder: Builder = field(default_factory=Builder)
    operands: dict[Node, Operand] = field(default_factory=dict)
    constants: dict[Node, object] = field(default_factory=dict)

    def bind_inputs(self, shape: Shape) -> None:
        """Give every placeholder its parameter, or the graph's input."""
        self.builder.values[INPUT] = Value(INPUT, shape)
        tensors = {**self.program.constants, **self.program.state_dict}
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                path = self.parameters.get(node.name)
                if path is None:
                    self.operands[node] = INPUT
                else:
                    self.constants[node] = tensors[path]

    def visit(self, node: Node) -> None:
        """Compute or lower one call."""
        if all(source in self.constants for source in node.all_input_nodes):
            self.constants[node] = self._compute(node)
        elif node.target is operator.getitem:
            self.operands[node] = self._item(node)
        else:
            self.operands[node] = self._lower(node)

    def output(self, output: Output) -> str:
        """Return the value that the network returns as ``output``."""
        match self.operands.get(output.node):
            case str(value):
                return value
            case Permuted() | Shuffled():
                raise LoweringError(
                    f"forward: output {output.place} returns its axes in another order: "
                    "return the tensor as its layer computes it"
                )
            case _:
                raise _not_computed(output)

    def _compute(self, node: Node) -> object:
        assert callable(node.target)
        if _draws(node):
            raise refusal(_path(node), _operator(node), "draws random numbers: use a buffer")
        args, kwargs = self._resolve(node.args), self._resolve(node.kwargs)
        assert isinstance(args, tuple)
        assert isinstance(kwargs, dict)
        with torch.no_grad():
            return node.target(*args, **kwargs)

    def _item(self, node: Node) -> Operand:
        source, index = node.args
        assert isinstance(source, Node)
        assert index == 0, f"{_operator(source)}: only batch norms have several outputs here"
        return self.operands[source]

    def _lower(self, node: Node) -> Operand:
        rule, path, kind = RULES.get(node.target), _path(node), _operator(node)
        if rule is None:
            raise _unsupported(node)
        result = _first(node.meta["val"])
        if result.dtype != torch.float32:
            raise refusal(path, kind, f"gives {result.dtype}: the network must stay in float32")
        name = path if _is_leaf(node) else ".".join(filter(None, (path, kind)))
        layer = self._layer(node, path) or name
        arguments = self._arguments(node)
        return rule(Call(self.builder, kind, path, name, layer, arguments, tuple(result.shape)))

    def _arguments(self, node: Node) -> dict[str, Argument]:
        """Return the arguments by name with defaults; the first tensor is always ``input``."""
        assert isinstance(node.target, torch._ops.OpOverload)
        bound: dict[str, Argument] = {}
        for index, argument in enumerate(node.target._schema.arguments):
            given = node.args[index] if index < len(node.args) else node.kwargs.get(argument.name)
            absent = index >= len(node.args) and argument.name not in node.kwargs
            name = "input" if argument.name == "self" else argument.name
            bound[name] = argument.default_value if absent else self._resolve(given)
        return bound

    def _resolve(self, argument: object) -> Argument:
        """Return an argument with every node in it replaced by its operand or constant."""
        match argument:
            case Node():
                return self.operands.get(argument, self.constants.get(argument))
            case tuple():
                return tuple(self._resolve(item) for item in argument)
            case list():
                return [self._resolve(item) for item in argument]
            case dict():
                return {key: self._resolve(item) for key, item in argument.items()}
            case _:
                return argument

    def _layer(self, node: Node, path: str) -> str:
        """Return the layer's name: its module's path, or its weight's without ``.weight``."""
        if f"{path}.weight" in self.parameters.values() or len(node.args) < 2:
            return path
        weight = node.args[1]
        name = self.parameters.get(weight.name, "") if isinstance(weight, Node) else ""
        return name.removesuffix("weight").removesuffix(".") or path


def _parameters(program: ExportedProgram) -> dict[str, str]:
    return {
        spec.arg.name: spec.target
        for spec in program.graph_signature.input_specs
        if spec.target is not None
    }


def _not_computed(output: Output) -> LoweringError:
    return LoweringError(
        f"forward: output {output.place} is not computed by a layer from the input"
    )


def _ancestors(nodes: Iterable[Node]) -> set[Node]:
    found: set[Node] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting.extend(node.all_input_nodes)
    return found


def _path(node: Node) -> str:
    """Return the path of the module that makes a call; "" is the network itself."""
    stack = node.meta.get("nn_module_stack", {})
    path = next(reversed(stack.values()))[0] if stack else ""
    return re.sub(r"@\d+", "", path)  # torch marks the second call of a module so


def _is_leaf(node: Node) -> bool:
    """Return whether a module of torch makes the call, so that its path is name enough."""
    stack = node.meta.get("nn_module_stack", {})
    path, kind = next(reversed(stack.values())) if stack else ("", "")
    return bool(path) and str(kind).startswith("torch.nn.modules.")


def _operator(node: Node) -> str:
    if isinstance(node.target, torch._ops.OpOverload):
        name: str = node.target._schema.name.removeprefix("aten::")
        return NAMES.get(name, name)
    return str(node.target)


def _draws(node: Node) -> bool:
    overload = node.target
    return isinstance(overload, torch._ops.OpOverload) and (
        torch.Tag.nondeterministic_seeded in overload.tags
    )


def _unsupported(node: Node) -> LoweringError:
    """Return the refusal of an operator without a rule, or of this form of one that has a rule."""
    kind = _operator(node)
    cure = f": {CURES[kind]}" if kind in CURES else ""
    form = str(node.target).removeprefix("aten.") if kind in OPERATORS else kind
    return refusal(_path(node), form, f"is not supported ({DOCUMENT}){cure}")


def _first(value: object) -> torch.Tensor:
    first = value[0] if isinstance(value, tuple) else value
    assert isinstance(first, torch.Tensor)
    return first
