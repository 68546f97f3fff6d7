"""The builder that kernels are written with, and the instructions that they use."""
