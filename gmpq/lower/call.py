"""One operator of the traced network: its arguments, checked and typed, and where it puts nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from gmpq.errors import LoweringError
from gmpq.ir import FloatNode, Reshape, Shape, Value
from gmpq.passes.replace_uses import unique


@dataclass(frozen=True, slots=True)
class Permuted:
    """A value whose axes are read in the order ``axes``: no node yet, for it may fold away."""

    value: str
    axes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Shuffled:
    """A vector per sample whose elements are read in ``order``: a linear layer can absorb it."""

    value: str
    order: tuple[int, ...]


# A value's name, a constant, or a view that no node stands for yet.
Operand: TypeAlias = str | torch.Tensor | Permuted | Shuffled
Argument: TypeAlias = object


@dataclass(slots=True)
class Builder:
    """The graph so far: nodes in execution order, and their values."""

    values: dict[str, Value] = field(default_factory=dict)
    nodes: list[FloatNode] = field(default_factory=list)
    names: set[str] = field(default_factory=set)

    def emit(self, name: str, shape: Shape, make: Callable[[str, str], FloatNode]) -> str:
        """Append the node that ``make(name, output)`` returns; return its value's name.

        A second node of one name, such as a ReLU that is called twice, is ``name:2``.
        """
        name = unique(name, self.names)
        output = unique(name, self.values)
        self.names.add(name)
        self.values[output] = Value(output, shape)
        self.nodes.append(make(name, output))
        return output

    def producer(self, value: str) -> FloatNode | None:
        """Return the node that writes ``value``; None for the network's input."""
        return next((node for node in reversed(self.nodes) if node.output == value), None)


@dataclass(frozen=True, slots=True)
class Call:
    """A call of one ATen operator."""

    builder: Builder
    operator: str  # "conv2d"
    path: str  # the module that calls it, "layer1.0.conv1"; "" for the network itself
    name: str  # the node's name
    layer: str  # the name of a layer with this call's weight
    arguments: Mapping[str, Argument]
    shape: Shape  # of the output

    def refuse(self, reason: str) -> LoweringError:
        """Return the error that ``reason`` makes this call impossible."""
        return refusal(self.path, self.operator, reason)

    def emit(self, make: Callable[[str, str], FloatNode], shape: Shape | None = None) -> str:
        """Append a node of this call's name and output shape."""
        return self.builder.emit(self.name, self.shape if shape is None else shape, make)

    def reshaped(self, value: str, shape: Shape) -> str:
        """Return ``value`` in ``shape``, appending a Reshape if it has another."""
        if self.builder.values[value].shape == shape:
            return value
        return self.builder.emit(
            f"{self.name}.reshape", shape, lambda name, output: Reshape(name, (value,), output)
        )

    def value(self, name: str) -> str:
        """Return the name of the value given as argument ``name``."""
        return self.as_value(self.arguments[name])

    def as_value(self, operand: Argument) -> str:
        """Return ``operand`` if it is a value that the network computes."""
        match operand:
            case str():
                return operand
            case Permuted(axes=axes):
                raise self.refuse(
                    f"reads axes in the order {axes}: only permutations that cancel out fold away"
                )
            case Shuffled():
                raise self.refuse("reads a flattened permutation: only a linear layer can")
            case _:
                raise self.refuse("works with a constant: only sums and products can")

    def input_shape(self, name: str = "input") -> Shape:
        """Return the shape of the value given as argument ``name``."""
        return self.builder.values[self.value(name)].shape

    def image(self, name: str = "input") -> tuple[int, int, int, int]:
        """Return the shape [N, C, H, W] of the argument ``name``."""
        match self.input_shape(name):
            case (batch, channels, height, width):
                return batch, channels, height, width
            case shape:
                raise self.refuse(f"needs an input [N, C, H, W], got shape {shape}")

    def constant(self, name: str) -> torch.Tensor:
        """Return the weight given as argument ``name``, of any shape and type.

        Raises:
            LoweringError: it depends on the network's input.
        """
        operand = self.arguments[name]
        if not isinstance(operand, torch.Tensor):
            raise self.refuse(f"has a {name} that depends on the input: it must be a parameter")
        return operand

    def array(self, name: str) -> NDArray[np.float32] | None:
        """Return a float32 copy of the weight given as argument ``name``, in its shape.

        None if there is none.

        Raises:
            LoweringError: it depends on the network's input.
        """
        return None if self.arguments[name] is None else as_array(self.constant(name))

    def number(self, name: str) -> float:
        """Return the number given as argument ``name``."""
        value = self.arguments[name]
        assert isinstance(value, int | float), f"{self.operator}: {name}={value!r}"
        return float(value)

    def flag(self, name: str) -> bool:
        """Return the truth value given as argument ``name``."""
        return bool(self.arguments[name])

    def integers(self, name: str) -> tuple[int, ...]:
        """Return the whole numbers given as argument ``name``; a single one counts as a list."""
        value = self.arguments[name]
        items = value if isinstance(value, list | tuple) else [value]
        numbers = tuple(item for item in items if isinstance(item, int))
        assert len(numbers) == len(items), f"{self.operator}: {name}={value!r}"
        return numbers

    def pair(self, name: str) -> tuple[int, int]:
        """Return the argument ``name`` for rows and columns; a single number counts for both."""
        numbers = self.integers(name)
        return numbers[0], numbers[-1]


def refusal(path: str, operator: str, reason: str) -> LoweringError:
    """Return the error that ``operator``, called by the module at ``path``, is impossible."""
    return LoweringError(f"{path or 'forward'}: {operator} {reason}")


def as_array(tensor: torch.Tensor) -> NDArray[np.float32]:
    """Return a float32 copy of ``tensor`` [...] that later changes of the module do not reach."""
    return np.array(tensor.detach().to(torch.float32).numpy(), dtype=np.float32, order="C")
