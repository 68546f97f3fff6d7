"""What the tools open their programs from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gmpq.backends.tvm.tuning.level import TuningLevel
from gmpq.ir import IntGraph
from machine.peaks import Peaks
from versus.baselines.float_onnx import FloatModel, exported, given
from versus.policies import choose
from versus.subject import Subject

FULL = "w8a8"


@dataclass(frozen=True, eq=False)  # no slots: cached properties live in the instance
class Bench:
    """One network, and the folders to keep files in."""

    subject: Subject
    cache: Path  # files of the baselines, and measured times of kernels
    scratch: Path  # programs of gmpq, of this run
    onnx: Path | None = None  # the user's own model for the baselines
    target: str = "native"
    tune: TuningLevel = TuningLevel.OFF
    peaks: Peaks | None = None  # of the target, for the shares of gmpq's programs

    @cached_property
    def float_model(self) -> FloatModel:
        """The float network that the baselines start from."""
        if self.onnx is not None:
            return given(self.onnx, self.subject)
        return exported(self.subject, self.cache)

    @cached_property
    def int8(self) -> IntGraph:
        """The network at 8 bits, as gmpq quantizes it."""
        subject = self.subject
        return subject.quantized(choose(FULL, subject.name, subject.macs, 0))
