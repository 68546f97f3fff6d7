"""What becomes of accumulators before they are stored."""
