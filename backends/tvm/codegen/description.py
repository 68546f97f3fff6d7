"""What the runtime reads of a compiled network, from its plan."""

from __future__ import annotations

from collections.abc import Sequence

from gmpq.backends.tvm.plan.plan import Plan, Step, moved_bytes
from gmpq.backends.tvm.target import AnyTarget
from gmpq.ir import IntGraph
from gmpq.program import Program, ProgramStep, StoredValue, TensorSpec


def described(graph: IntGraph, planned: Plan, target: AnyTarget, params_bytes: int) -> Program:
    """Return what holds on every kind of target: tensors, memory, and steps."""
    return Program(
        target=target.name,
        params_bytes=params_bytes,
        workspace_bytes=planned.memory.workspace_bytes,
        inputs=_specs(graph, graph.inputs),
        outputs=_specs(graph, graph.outputs),
        steps=tuple(_step(planned, step) for step in planned.steps),
        live_bytes=planned.memory.live_bytes,
        moved_bytes=sum(moved_bytes(planned, step) for step in planned.steps),
    )


def _specs(graph: IntGraph, names: Sequence[str]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name, graph.values[name].shape) for name in names)


def _step(planned: Plan, step: Step) -> ProgramStep:
    return ProgramStep(
        node=step.node,
        kernel=step.kernel,
        outputs=tuple(step.outputs),
        stored=tuple(
            _stored(planned, name)
            for name in step.outputs
            if planned.tensors[name].layout is not None
        ),
        moved_bytes=moved_bytes(planned, step),
        executed_macs=None if step.work is None else step.work.executed_macs,
        instruction="" if step.work is None else step.work.instruction,
    )


def _stored(planned: Plan, name: str) -> StoredValue:
    """Return where the codes of a value lie."""
    tensor = planned.tensors[name]
    layout = tensor.codes
    strides = (layout.image, 1, layout.row, layout.stored)
    shape = tensor.value.shape
    offset = planned.memory.offsets[name] + layout.origin
    return StoredValue(name, offset, shape, strides[: len(shape)])
