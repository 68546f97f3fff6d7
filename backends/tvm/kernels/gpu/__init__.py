"""Kernels for GPUs, one folder per family."""
