"""From a PyTorch module to the float graph."""
