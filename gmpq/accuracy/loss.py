"""What quantization costs: the integer network against the float one, on images.

The SQNR of a value falls with depth, since it holds the noise of all nodes before it. Which node
hurts follows from two other figures: the SQNR of its value where its inputs are exact, and the SQNR
of the network's outputs where it alone is quantized.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from gmpq.accuracy.metrics import MOST_DB

WORST = 3  # nodes that a compile prints


@dataclass(frozen=True, slots=True)
class OutputLoss:
    """The distance of one output of the integer network from that of the float network."""

    output: str
    sqnr_db: float
    cosine: float  # mean over images
    agreement: float | None  # share of images whose largest class is the same; None: no classes


@dataclass(frozen=True, slots=True)
class NodeLoss:
    """What one node of the integer graph adds to the noise."""

    node: str
    value: str  # the float value that its codes stand for
    sqnr_db: float  # with the noise of all nodes before it
    alone_db: float  # where its inputs are exact
    output_db: float | None  # of the outputs, where it alone is quantized; None: not measured

    @property
    def blame_db(self) -> float:
        """The figure that nodes are ranked by: the lower, the worse."""
        return self.alone_db if self.output_db is None else self.output_db


@dataclass(frozen=True, slots=True)
class Loss:
    """Outputs and nodes of one network on some images."""

    images: int
    alone_images: int  # that ``output_db`` is measured on; 0 where it would take too long
    clipped: float  # share of the inputs' numbers that lie outside the codes' range
    outputs: tuple[OutputLoss, ...]
    nodes: tuple[NodeLoss, ...]  # in execution order

    def worst(self, count: int = WORST) -> tuple[NodeLoss, ...]:
        """Return the nodes that hurt most, the worst first; none that changes nothing."""
        noisy = [node for node in self.nodes if node.blame_db < MOST_DB]
        return tuple(sorted(noisy, key=lambda node: node.blame_db)[:count])


def to_json(loss: Loss) -> dict[str, Any]:
    """Return the section ``loss`` of ``parity.json``."""
    return asdict(loss)
