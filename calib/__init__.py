"""Ranges of activations and scales of weights, from data."""
