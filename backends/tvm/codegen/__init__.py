"""From a plan to files: kernels, entry points, header, libraries."""
