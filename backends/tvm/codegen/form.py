"""What a compile writes, and in which form."""

from __future__ import annotations

from dataclasses import dataclass

from gmpq.backends.tvm.plan.plan import Plan
from gmpq.program import PREFIX, Program

LIBRARY, ARCHIVE, PARAMS, HEADER = "model.so", "model.a", "params.bin", "model.h"
KERNELS, ENTRY = "kernels.cu", "model.c"  # of a program for GPUs: what its library is made of


@dataclass(frozen=True, slots=True, eq=False)
class Build:
    """A compiled network: its plan, and the description that the runtime reads."""

    plan: Plan
    program: Program


@dataclass(frozen=True, slots=True)
class Form:
    """What is written in addition to the shared library, and what it holds."""

    static: bool = False  # model.a too, and for a classifier a program in C
    embed_params: bool = False  # the libraries hold the parameters, as params.bin does
    prefix: str = PREFIX  # of the names in C


LOADED = Form()  # enough to run it here
