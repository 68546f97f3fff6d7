"""Writers of the integer graph for other tools."""
