"""What the user may choose about a compile; free of heavy imports, for the command line."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmpq.backends.tvm.tuning.level import TuningLevel
from gmpq.errors import TargetError
from gmpq.export.weight_storage import WeightStorage
from gmpq.program import PREFIX

GPU = "cuda-"  # what names of targets begin with

if TYPE_CHECKING:
    from gmpq.backends.rpc.pool import DevicePool


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """What the user may choose; the defaults here are those of the command line."""

    target: str = "native"
    observer: str = "mse"
    weight_observer: str = "mse"
    equalize: bool = False
    bias_correct: bool = True
    storage: WeightStorage = WeightStorage.INT8
    threads: int = 1
    bench: bool = True
    batch: int = 8  # images per step of calibration
    samples: int = 2  # inputs that parity is checked on
    tune: TuningLevel = TuningLevel.OFF  # how many kernels are measured per layer
    tuned: Path | None = None  # where measured times are remembered
    devices: DevicePool | None = None  # of boards to measure kernels on, instead of this machine
    embed_params: bool = False  # the libraries of TVM's program hold its parameters
    name: str = PREFIX  # that begins the names of C functions
    max_params_ratio: float | None = None  # of weights to a byte each; None: as the target has it

    def to_json(self) -> dict[str, Any]:
        """Return the options as ``manifest.json`` has them."""
        fields = asdict(self) | {"storage": self.storage.value, "tune": self.tune.value}
        apart = ("tuned", "devices", "max_params_ratio")
        return {name: value for name, value in fields.items() if name not in apart}


def refuse_on_gpus(options: CompileOptions) -> None:
    """Pass options that the target has.

    Raises:
        TargetError: Programs for GPUs have no such thing.
    """
    given = (
        ("--embed-params", options.embed_params),
        ("--tracker", options.devices is not None),
        ("--tune", options.tune is not TuningLevel.OFF),
    )
    for name, chosen in given:
        if chosen and options.target.startswith(GPU):
            raise TargetError(f"{name}: target {options.target} has no such option: leave it out")
