"""gmpq compared with other runtimes: the modules of ``baselines.py``."""
