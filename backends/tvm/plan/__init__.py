"""From the integer graph to a plan: a kernel per step, fusion, memory."""
