"""A loss as text: tables, and warnings where it is larger than networks tolerate."""

from __future__ import annotations

from collections.abc import Mapping

from gmpq import table
from gmpq.accuracy.loss import Loss, OutputLoss
from gmpq.policy import MOST_BITS, LayerBits

LEAST_DB = 20.0
LEAST_AGREEMENT = 0.9
MOST_CLIPPED = 0.01


def summary(loss: Loss) -> str:
    """Return what a compile prints: all outputs, and the nodes that hurt most."""
    worst = [f"{node.node} {node.blame_db:.1f} dB" for node in loss.worst()]
    place = "at the outputs" if loss.alone_images else "at the node"
    lines = [_outputs(loss)]
    lines += [f"worst where all else is float, {place}: {', '.join(worst)}"] if worst else []
    return "\n".join(lines)


def to_table(loss: Loss) -> str:
    """Return all outputs and all nodes as text, the nodes in execution order."""
    header = ("node", "value", "SQNR dB", "alone dB", "at outputs dB")
    rows = [
        (
            node.node,
            node.value,
            f"{node.sqnr_db:.1f}",
            f"{node.alone_db:.1f}",
            "-" if node.output_db is None else f"{node.output_db:.1f}",
        )
        for node in loss.nodes
    ]
    return f"{_outputs(loss)}\n\n{table.render(header, rows)}"


def distance_warnings(loss: Loss, bits: Mapping[str, LayerBits]) -> tuple[str, ...]:
    """Return a line for every output that is far from that of the float network, with a cure."""
    return tuple(
        f"output '{output.output}': {' and '.join(lacks)}: {_blame(loss, bits)}"
        for output in loss.outputs
        if (lacks := _lacks(output)) and loss.worst(1)
    )


def range_warnings(clipped: float) -> tuple[str, ...]:
    """Return a line if more of the input's numbers are ``clipped`` than outliers explain."""
    if clipped <= MOST_CLIPPED:
        return ()
    return (
        f"{clipped:.1%} of the input's numbers lie outside the range of its codes: prepare the "
        "images as those of the calibration, or calibrate on images like these",
    )


def _outputs(loss: Loss) -> str:
    header = (f"integer against float, {loss.images} images", "SQNR dB", "cosine", "same class")
    rows = [
        (
            output.output,
            f"{output.sqnr_db:.1f}",
            f"{output.cosine:.4f}",
            "-" if output.agreement is None else f"{output.agreement:.1%}",
        )
        for output in loss.outputs
    ]
    return table.render(header, rows)


def _lacks(output: OutputLoss) -> list[str]:
    lacks = []
    if output.sqnr_db < LEAST_DB:
        lacks.append(f"{output.sqnr_db:.1f} dB from the float network (below {LEAST_DB:.0f} dB)")
    if output.agreement is not None and output.agreement < LEAST_AGREEMENT:
        lacks.append(f"the same class for {output.agreement:.1%} (below {LEAST_AGREEMENT:.0%})")
    return lacks


def _blame(loss: Loss, bits: Mapping[str, LayerBits]) -> str:
    (worst,) = loss.worst(1)
    own = bits.get(worst.node)
    narrow = own is not None and min(own.w, own.a) < MOST_BITS
    held = f" (w{own.w}a{own.a})" if own is not None else ""
    more = "give it more bits, " if narrow else ""
    return (
        f"'{worst.node}'{held} hurts most, {worst.blame_db:.1f} dB alone: {more}try another "
        "--observer or more images, or train it with gmpq finetune"
    )
