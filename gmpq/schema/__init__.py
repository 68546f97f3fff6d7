"""The policy's JSON Schema, published as data."""
