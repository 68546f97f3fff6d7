"""The space of the network that a policy is for: its costs, and the layers that were searched."""

from __future__ import annotations

from gmpq.errors import SearchError, closest
from gmpq.policy import LayerBits
from gmpq.search.differentiable.inspect import NetworkInfo
from gmpq.search.ilp.candidates import Candidates
from gmpq.search.ilp.space import Layer, Space


def deployment_space(
    info: NetworkInfo, deployed: NetworkInfo, candidates: Candidates, fixed: LayerBits
) -> Space:
    """Return the layers of ``deployed``, of which those that ``info`` searches are searched.

    Args:
        info: of the supernet's network.
        deployed: of the network that the policy is for; its layers may be larger.
        candidates: the bits of the searched layers.
        fixed: the bits of all other layers.

    Raises:
        SearchError: a searched layer is missing in ``deployed``, or runs in another order there.
    """
    names = [layer.name for layer in info.searched]
    known = {layer.name: layer for layer in deployed.layers}
    for name in names:
        if name not in known:
            raise SearchError(
                f'--for: layer "{name}" of the searched network is not in the other one'
                f"{closest(name, known)}: take networks of the same layers"
            )
    if [name for name in known if name in names] != names:
        raise SearchError(
            "--for: the layers run in another order there: take networks of the same layers"
        )
    layers = tuple(
        Layer(name, layer.macs, layer.weights, None if name in names else fixed)
        for name, layer in known.items()
    )
    return Space(layers, candidates.weight_bits, candidates.input_bits)
