"""What the user may choose about a compile."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gmpq.backends.rpc.pool import Fleet
from gmpq.backends.tvm.tuning.tune import Effort
from gmpq.calib import observers
from gmpq.errors import CalibrationError, closest
from gmpq.export.storage import WeightStorage
from gmpq.passes.ptq import QuantizeOptions
from gmpq.passes.weights import WeightObserver
from gmpq.program import PREFIX


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """What the user may choose."""

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
    tune: Effort = Effort.OFF  # how many kernels are measured per layer
    tuned: Path | None = None  # where measured times are remembered
    fleet: Fleet | None = None  # of boards to measure kernels on, instead of this machine
    embed_params: bool = False  # the libraries of TVM's program hold its parameters
    name: str = PREFIX  # that begins the names of C functions
    max_params_ratio: float | None = None  # of weights to a byte each; None: as the target has it

    def quantization(self, output_bits: int | None) -> QuantizeOptions:
        """Return how values become codes; ``output_bits`` are those of the policy.

        Raises:
            CalibrationError: an observer is unknown.
        """
        return QuantizeOptions(
            observers.find(self.observer),
            _find_weight_observer(self.weight_observer),
            self.bias_correct,
            output_bits,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the options as ``manifest.json`` has them."""
        fields = asdict(self) | {"storage": self.storage.value, "tune": self.tune.value}
        apart = ("tuned", "fleet", "max_params_ratio")
        return {name: value for name, value in fields.items() if name not in apart}


def _find_weight_observer(name: str) -> WeightObserver:
    names = [observer.value for observer in WeightObserver]
    if name not in names:
        raise CalibrationError(
            f"weight observer {name!r} is unknown{closest(name, names)}: use {', '.join(names)}"
        )
    return WeightObserver(name)
