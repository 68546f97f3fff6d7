"""What the machine can do: peaks, noise, instructions that run."""
