"""Code for NVIDIA GPUs: CUDA C, cubins, and a C entry on the driver API."""
