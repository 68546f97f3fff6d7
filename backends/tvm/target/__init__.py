"""Targets: processors, their features and caches, and what LLVM makes of them."""
