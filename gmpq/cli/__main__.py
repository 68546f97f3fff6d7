"""``python -m gmpq.cli`` is ``gmpq``."""

from gmpq.cli.entry import main

main()
