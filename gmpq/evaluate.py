"""How often a program is right on labelled images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gmpq.backends.base import Tensor
from gmpq.data import Images


def count_right(run: Callable[[NDArray[np.float32]], Tensor], images: Images) -> int:
    """Return for how many of ``images`` the largest output [1, classes] of ``run`` is the label.

    ``run`` is called with one image [1, C, H, W] at a time.
    """
    batches = zip(images.batches(1), images.labels, strict=True)
    return sum(int(np.argmax(run(batch)) == label) for batch, label in batches)
