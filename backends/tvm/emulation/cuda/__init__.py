"""CUDA on a CPU: kernels as fibers, and a library that plays the driver."""
