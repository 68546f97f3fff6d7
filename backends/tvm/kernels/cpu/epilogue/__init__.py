"""From accumulators to what a layer stores."""
