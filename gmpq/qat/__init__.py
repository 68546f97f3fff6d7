"""Quantization-aware training: networks that learn what their integer programs will compute."""
