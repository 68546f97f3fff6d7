"""Milliseconds per layer and bits, measured."""
