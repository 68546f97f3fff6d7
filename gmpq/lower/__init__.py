"""From a PyTorch module to the float graph."""

from gmpq.backends.torch_float import run_float as run_float
from gmpq.lower.network import lower as lower
