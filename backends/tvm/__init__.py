"""Ahead-of-time code from own low-bit kernels."""
