"""Convolution and fully connected layers of any shape, without tensor cores."""
