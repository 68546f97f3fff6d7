"""What all compiled networks say of themselves, and how they take their inputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gmpq.program import Program, ProgramStep, TensorSpec
from gmpq.runtime.arrays import Floats, checked_array


class Described:
    """A compiled network by its description."""

    def __init__(self, program: Program) -> None:
        """Keep the description."""
        self._program = program

    @property
    def steps(self) -> tuple[ProgramStep, ...]:
        """The layers in execution order."""
        return self._program.steps

    @property
    def target(self) -> str:
        """The target that the network was compiled for."""
        return self._program.target

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The arrays that ``run`` takes, in their order."""
        return self._program.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The arrays that ``run`` returns, in their order."""
        return self._program.outputs

    def _outputs(self) -> list[Floats]:
        return [np.empty(output.shape, np.float32) for output in self.outputs]

    def _checked(self, inputs: Sequence[Floats]) -> list[Floats]:
        if len(inputs) != len(self.inputs):
            raise ValueError(f"expected {len(self.inputs)} inputs, got {len(inputs)}")
        return [checked_array(array, spec) for array, spec in zip(inputs, self.inputs, strict=True)]
