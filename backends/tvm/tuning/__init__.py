"""Choosing kernels by measured time, here or on boards."""
