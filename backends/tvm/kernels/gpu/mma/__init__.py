"""Convolution and fully connected layers on tensor cores."""
