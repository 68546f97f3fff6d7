"""Two kernels of eight threads, and codes of CUDA's driver."""

from __future__ import annotations

import ctypes

import numpy as np

from tests.support.gpu.cuda_kernels import Driver

SUCCESS, INVALID_VALUE, OUT_OF_MEMORY, NOT_INITIALIZED = 0, 1, 2, 3
NO_DEVICE, INVALID_DEVICE = 100, 101
INVALID_CONTEXT, INVALID_HANDLE, NOT_FOUND, NOT_READY = 201, 400, 500, 600
ILLEGAL_ADDRESS, CAPTURE_UNSUPPORTED, CAPTURE_INVALIDATED = 700, 900, 901
NON_BLOCKING, THREAD_LOCAL, RELAXED = 1, 1, 2
ONE, ALL = (1, 1, 1), (8, 1, 1)
TEXT = """
extern "C" __global__ void twice(const int *x, int *y) { y[threadIdx.x] = 2 * x[threadIdx.x]; }
extern "C" __global__ void plus(const int *x, int *y) { y[threadIdx.x] = 1 + x[threadIdx.x]; }
"""
KERNELS = {"twice": 2, "plus": 2}


def function(driver: Driver, name: str = "twice") -> int:
    module = driver.handle("cuModuleLoadData", ctypes.c_char_p(b"image"))
    return driver.handle("cuModuleGetFunction", module, ctypes.c_char_p(name.encode()))


def values(driver: Driver, address: int) -> list[int]:
    found = np.empty(8, np.int32)
    driver.download(address, found)
    return [int(each) for each in found]


def upload(driver: Driver) -> int:
    return driver.upload(np.arange(8, dtype=np.int32))
