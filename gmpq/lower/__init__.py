"""From a PyTorch module to the float graph."""

from gmpq.lower.network import lower as lower
from gmpq.lower.run import run_float as run_float
