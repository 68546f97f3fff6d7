"""Kernels of one thread per code, word or pixel: all nodes without products of weights."""
