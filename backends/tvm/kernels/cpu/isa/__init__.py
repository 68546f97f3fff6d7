"""The words that kernels are written in, and the instructions that they use."""
