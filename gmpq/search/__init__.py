"""Searches for the bits of each layer."""
