"""gmpq and other runtimes side by side: what ``peers.py`` is made of."""
