"""The 0/1 program: losses and costs per layer and bits, bounds, and its solution."""
