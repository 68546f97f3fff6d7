"""Compiles mixed-precision quantization policies into fast, bit-for-bit verified programs."""
