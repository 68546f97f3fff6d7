"""Fake quantization in torch, one published quantizer per file.

Each returns real numbers that a code can hold, ``scale * code``, and passes gradients straight
through the rounding.
"""
