"""Instructions of GPUs, and what kernels are written with."""
