"""The contract of kernels on a GPU."""

from __future__ import annotations

from typing import TypeAlias

from gmpq.backends.tvm.kernels import base
from gmpq.backends.tvm.target.gpu import GpuTarget

Site: TypeAlias = base.Site[GpuTarget]  # to annotate with; ``base.Site`` makes one
