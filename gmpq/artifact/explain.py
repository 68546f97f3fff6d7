"""Why a program is as it is: layers, bits, costs, kernels and their refusals, as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gmpq import table
from gmpq.errors import PolicyError
from gmpq.inputs.compile_inputs import Sources, build_network
from gmpq.ir import FloatGraph
from gmpq.lower import lower
from gmpq.passes import cost
from gmpq.policy import LayerBits, Policy, bind, bits_of, differing_calls
from gmpq.policy import file as policy_file


@dataclass(frozen=True, slots=True)
class Kernel:
    """What computes one node of the integer graph, and why other kernels do not."""

    layer: str
    kernel: str  # with its configuration
    refusals: Mapping[str, str]  # kernel -> reason
    measured_ms: Mapping[str, float]  # of every candidate by name, where kernels were tuned


def layers_of_policy(sources: Sources) -> str:
    """Return the layers of a policy's network with their bits; weights are not needed.

    A layer that the policy does not cover, or names but does not exist, ends the text.

    Raises:
        GmpqError: the policy cannot be read, or its network cannot be lowered.
    """
    policy, graph = _open(sources)
    bits = {name: bits_of(policy, name) for name in cost.layer_names(graph)}
    rows = [
        (name, "-" if found is None else str(found.w), "-" if found is None else str(found.a))
        for name, found in bits.items()
    ]
    text = table.render(("layer", "w", "a"), rows)
    try:
        differing = differing_calls(bind(policy, bits))
    except PolicyError as error:
        return f"{text}\n\nthe policy does not fit: {error}"
    return "\n".join((text, *(f"\n{line}" for line in differing)))


def bits_of_policy(sources: Sources) -> dict[str, LayerBits]:
    """Return the bits of every layer of a policy's network; weights are not needed.

    Raises:
        GmpqError: the policy cannot be read, its network cannot be lowered, or they do not fit.
    """
    policy, graph = _open(sources)
    return bind(policy, cost.layer_names(graph))


def costs_of_policy(sources: Sources) -> str:
    """Return the cost of every layer of a policy's network; weights are not needed.

    Raises:
        GmpqError: the policy cannot be read, its network cannot be lowered, or they do not fit.
    """
    policy, graph = _open(sources)
    bits = bind(policy, cost.layer_names(graph))
    return cost.to_table(cost.measure(graph, bits, policy.output_bits))


def kernels_table(kernels: Sequence[Kernel], times: Sequence[Mapping[str, Any]] = ()) -> str:
    """Return the kernel of every layer as text, with its time in ``times``, and refusals by reason.

    ``times`` are rows of ``latency.json``.
    """
    spent = {(row["layer"], row["backend"]): f"{row['median_ms']:.4f}" for row in times}
    backends = sorted({backend for _, backend in spent})
    rows = [
        (found.layer, found.kernel, *(spent.get((found.layer, b), "-") for b in backends))
        for found in kernels
    ]
    text = table.render(("layer", "kernel", *(f"{backend} ms" for backend in backends)), rows)
    return "\n".join([text, "", *_candidates(kernels), *_refusals(kernels)])


def _candidates(kernels: Sequence[Kernel]) -> list[str]:
    return [
        f"{found.layer} measured: "
        + ", ".join(f"{name} {spent:.4f} ms" for name, spent in _by_time(found.measured_ms))
        for found in kernels
        if found.measured_ms
    ]


def _by_time(measured_ms: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(measured_ms.items(), key=lambda item: item[1])


def _refusals(kernels: Sequence[Kernel]) -> list[str]:
    layers: dict[tuple[str, str], list[str]] = {}
    for found in kernels:
        for kernel, reason in found.refusals.items():
            layers.setdefault((kernel, reason), []).append(found.layer)
    return [
        f"{kernel} refused {_some(names)}: {reason}" for (kernel, reason), names in layers.items()
    ]


def _some(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _open(sources: Sources) -> tuple[Policy, FloatGraph]:
    policy = policy_file.read(sources.policy)
    network = build_network(policy, sources)
    return policy, lower(network.module, network.shape, network.name)
