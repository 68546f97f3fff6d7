"""Other runtimes at their best settings."""
