"""Images of another size than the network's are refused, whatever holds them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gmpq.errors import CalibrationError
from gmpq.search.differentiable.image_sizes import check_sizes
from tests.search.differentiable.small import SHAPE


def array(name: str, **fields: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        np.savez(folder / name, **fields)
        return folder / name

    return write


def photographs(*sizes: tuple[int, int]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        for index, size in enumerate(sizes):
            (folder / f"class{index}").mkdir()
            Image.new("RGB", size).save(folder / f"class{index}" / "a.png")
        return folder

    return write


@pytest.mark.parametrize(
    ("write", "message"),
    [
        pytest.param(
            array("a.npz", images=np.zeros((4, 28, 30, 3), np.uint8), labels=[0, 1, 0, 1]),
            'a.npz: 28x30 pixels, the network reads 12x12: give "resize": 12,',
            id="size-of-arrays",
        ),
        pytest.param(
            photographs((12, 12), (12, 9)), "class1/a.png: 9x12 pixels", id="size-of-photographs"
        ),
    ],
)
def test_images_of_another_size(
    tmp_path: Path, write: Callable[[Path], Path], message: str
) -> None:
    with pytest.raises(CalibrationError, match=message):
        check_sizes([str(write(tmp_path))], SHAPE)


def test_images_of_the_right_size(tmp_path: Path) -> None:
    photographs((12, 12), (12, 12))(tmp_path)
    check_sizes([str(tmp_path)], SHAPE)
