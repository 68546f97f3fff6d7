"""How far the integer network is from the float one."""
