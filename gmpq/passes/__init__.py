"""Rewrites of the graph: each takes a graph and returns a graph."""
