"""Fully connected layers of one image, whose weights are read once."""
