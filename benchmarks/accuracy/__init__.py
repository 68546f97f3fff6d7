"""A study of what searched bits are worth: its data, its plan, its work and its tables."""
