"""Winograd convolution in integers, exact by a proof per layer."""
