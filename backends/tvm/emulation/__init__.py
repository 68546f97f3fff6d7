"""Running programs for other machines: under QEMU, as CUDA on a CPU, and counting instructions."""
