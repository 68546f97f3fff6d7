"""The distance of the integer network from the float one."""
