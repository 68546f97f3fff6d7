"""The outputs of a traced network, in order, by the keys and positions that lead to them.

    {"out": y, "aux": [a, b]}    out, aux.0, aux.1
    (y, z)                       output.0, output.1
    y                            the name of the layer that computes it

Fields of a named tuple are keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, OutputKind, TensorArgument
from torch.fx import Node
from torch.utils._pytree import (
    GetAttrKey,
    KeyEntry,
    MappingKey,
    SequenceKey,
    tree_flatten_with_path,
    tree_leaves,
    tree_unflatten,
)

from gmpq.errors import LoweringError

LEAST = "output"  # before the position in a tuple or list that is the whole result
KEY = re.compile(r"[A-Za-z0-9_./-]+")  # a colon marks names that gmpq and its ONNX writer add
DERIVED = re.compile(r"(.+)\.(?:codes|float|a\d)")  # names that quantization adds to an output's

Path: TypeAlias = tuple[KeyEntry, ...]


@dataclass(frozen=True, slots=True)
class Output:
    """What a network returns at one place of its structure."""

    name: str | None  # None: the network returns one tensor, named as its layer
    node: Node

    @property
    def place(self) -> str:
        """The name for a message."""
        return self.node.name if self.name is None else f"'{self.name}'"


def outputs_of(program: ExportedProgram) -> tuple[Output, ...]:
    """Return the outputs of a traced network in the order in which its structure holds them.

    Raises:
        LoweringError: an output is no tensor, or its keys make no name, or one that is taken.
    """
    spec = program.call_spec.out_spec
    assert spec is not None, "a traced program knows what it returns"
    places, _ = tree_flatten_with_path(tree_unflatten(range(spec.num_leaves), spec))
    nodes = {node.name: node for node in program.graph.nodes}
    found = program.graph_signature.output_specs
    written = [each.arg for each in found if each.kind is OutputKind.USER_OUTPUT]
    outputs = []
    for (path, _), argument in zip(places, written, strict=True):
        name = _name(path)
        if not isinstance(argument, TensorArgument):
            value = argument.value if isinstance(argument, ConstantArgument) else argument
            called = "its output" if name is None else f"output '{name}'"
            raise LoweringError(f"forward: {called} is {value}: every output must be a tensor")
        outputs.append(Output(name, nodes[argument.name]))
    if not outputs:
        raise LoweringError("forward: returns no tensor: return what the network computes")
    _check_unique([output.name for output in outputs if output.name is not None])
    return tuple(outputs)


def tensors(result: object) -> list[torch.Tensor]:
    """Return the tensors, of any shape, that a module returned, in the order of ``outputs_of``."""
    return [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]


def _name(path: Path) -> str | None:
    if not path:
        return None
    first = (LEAST,) if isinstance(path[0], SequenceKey) else ()
    return ".".join((*first, *_words(path)))


def _words(path: Path) -> Iterator[str]:
    for part in path:
        match part:
            case SequenceKey(idx=index):
                yield str(index)
            case GetAttrKey(name=name):
                yield name
            case MappingKey(key=str(key)) if KEY.fullmatch(key):
                yield key
            case MappingKey(key=key):
                raise LoweringError(
                    f"forward: returns a dict with the key {key!r}: "
                    "outputs are named by keys of letters, digits and _ - . /"
                )
            case _:
                raise LoweringError(
                    f"forward: returns a {type(part).__name__}: "
                    "outputs are named by keys of dicts and positions in tuples and lists"
                )


def _check_unique(names: Sequence[str]) -> None:
    for index, name in enumerate(names):
        derived = DERIVED.fullmatch(name)
        if name in names[:index] or (derived and derived[1] in names):
            raise LoweringError(f"forward: two outputs are called '{name}': rename a key")
