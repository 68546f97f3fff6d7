"""The output directory of a compile: its files, its programs, and what was measured of them."""
