"""The command line; entry points are ``gmpq`` and ``gmpq-compile``.

Exit codes: 0 all is well; 1 programs compute different numbers; 2 a mistake of the user, in
one line; 130 interrupted.
"""

from gmpq.cli.entry import compile_main as compile_main
from gmpq.cli.entry import main as main
