"""Convolution of few bits by counting the bits of planes."""
