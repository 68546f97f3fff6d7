"""The memory of a compiled network in this process."""

from __future__ import annotations

import mmap

import pytest

from gmpq.runtime import loading

CACHE_LINE = 64
SIZES = (0, 1, 4097, loading.HUGE_PAGE, 5 * loading.HUGE_PAGE // 2)


@pytest.mark.parametrize("size", SIZES)
def test_memory_is_aligned_and_zero(size: int) -> None:
    memory = loading.zeros(size)
    assert memory.shape == (size,)
    assert memory.ctypes.data % CACHE_LINE == 0
    assert not memory.any()
    memory[:] = 255  # all of it is there


class _WithoutHugePages(mmap.mmap):
    def madvise(self, *_arguments: int) -> None:
        raise OSError


def test_a_kernel_without_huge_pages_gives_memory_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmap, "mmap", _WithoutHugePages)
    assert not loading.zeros(loading.HUGE_PAGE).any()
