"""The kernel families for CPUs."""
