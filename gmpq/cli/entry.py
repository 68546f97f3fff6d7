"""From a command to an exit code: every expected failure becomes one line on stderr."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from threading import Timer
from types import FrameType
from typing import NoReturn

import click

from gmpq.cli.commands import compile_command, group
from gmpq.errors import GmpqError

MISTAKE = 2
INTERRUPTED = 130
TERMINATED = 143
AGAIN_S = 0.01  # when the object is gone


def main() -> NoReturn:
    """Run ``gmpq`` with the arguments of this process."""
    _heed_signals()
    sys.exit(run(group, sys.argv[1:], "gmpq"))


def compile_main() -> NoReturn:
    """Run ``gmpq-compile`` with the arguments of this process."""
    _heed_signals()
    sys.exit(run(compile_command, sys.argv[1:], "gmpq-compile"))


def run(command: click.Command, arguments: Sequence[str], name: str) -> int:
    """Return the exit code of ``command`` with ``arguments``."""
    try:
        code = command.main(list(arguments), prog_name=name, standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return MISTAKE
    except click.ClickException as error:
        return _tell(error.format_message(), error.exit_code)
    except GmpqError as error:
        return _tell(str(error), MISTAKE)
    except OSError as error:
        return _tell(str(error), MISTAKE)
    except (KeyboardInterrupt, click.Abort):
        return _tell("interrupted: nothing was written", INTERRUPTED)
    return code if isinstance(code, int) else 0


def _tell(message: str, code: int) -> int:
    click.echo(f"error: {' '.join(message.split())}", err=True)
    return code


def _heed_signals() -> None:
    signal.signal(signal.SIGTERM, _terminate)
    sys.unraisablehook = _unraisable


def _unraisable(ignored: sys.UnraisableHookArgs) -> None:
    """Send a signal again whose exception Python drops, as it does while it deletes an object."""
    match ignored.exc_value:
        case KeyboardInterrupt():
            Timer(AGAIN_S, os.kill, (os.getpid(), signal.SIGINT)).start()
        case SystemExit():
            Timer(AGAIN_S, os.kill, (os.getpid(), signal.SIGTERM)).start()
        case _:
            sys.__unraisablehook__(ignored)


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(TERMINATED)  # an exception, so that unfinished output is removed
