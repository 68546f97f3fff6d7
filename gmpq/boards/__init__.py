"""Boards: a package that makes one serve, and benchmarks of programs on them."""
