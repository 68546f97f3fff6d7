"""From a command to an exit code: every expected failure becomes one line on stderr.

What nobody expected is a bug in gmpq: its traceback goes to a file, and the exit code is 70.
"""

from __future__ import annotations

import gc
import os
import platform
import shlex
import signal
import sys
import sysconfig
import tempfile
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from threading import Timer
from types import FrameType, TracebackType
from typing import NoReturn

import click

from gmpq.cli.commands import compile_command, group
from gmpq.errors import GmpqError

MISTAKE = 2
BUG = 70  # EX_SOFTWARE of sysexits.h
SIGNALLED = 128  # and the signal's number
INTERRUPTED = SIGNALLED + signal.SIGINT
UNREAD = SIGNALLED + signal.SIGPIPE
ENDING = (signal.SIGTERM, signal.SIGHUP)  # a closed terminal sends the second
# Millions of torch's and TVM's objects stay: collecting takes a sixth of the time to start.
SELDOM = (100_000, 20, 100)
AGAIN_S = 0.01  # when the object is gone
LIBRARIES = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}


def main() -> NoReturn:
    """Run ``gmpq`` with the arguments of this process."""
    _prepare()
    _leave(run(group, sys.argv[1:], "gmpq"))


def compile_main() -> NoReturn:
    """Run ``gmpq-compile`` with the arguments of this process."""
    _prepare()
    _leave(run(compile_command, sys.argv[1:], "gmpq-compile"))


def run(command: click.Command, arguments: Sequence[str], name: str) -> int:
    """Return the exit code of ``command`` with ``arguments``."""
    try:
        code = command.main(list(arguments), prog_name=name, standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return MISTAKE
    except click.ClickException as error:
        return _report(error.format_message(), error.exit_code)
    except GmpqError as error:
        return _report(str(error), MISTAKE)
    except OSError as error:
        place = "" if error.filename is None else f"{error.filename}: "
        return _report(f"{place}{error.strerror or error}", MISTAKE)
    except MemoryError:
        return _report("not enough memory: choose a smaller network, input or batch", MISTAKE)
    except (KeyboardInterrupt, click.Abort):
        return _report("interrupted: nothing was written", INTERRUPTED)
    except SystemExit as end:
        if end.code != 1:
            raise
        return UNREAD  # click ends like this when nobody reads: ``gmpq explain ... | head``
    return code if isinstance(code, int) else 0


def _report(message: str, code: int) -> int:
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(message.split()))
    click.echo(f"error: {line}", err=True)
    return code


def _leave(code: int) -> NoReturn:
    try:
        sys.stdout.flush()
    except OSError:  # reported already; Python would try again and end with another code
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _prepare() -> None:
    gc.set_threshold(*SELDOM)
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup wants it
            signal.signal(number, _end)
    sys.unraisablehook = _unraisable
    sys.excepthook = _report_bug


def _report_bug(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Report ``error`` as a bug in gmpq, in two lines, with the place of its traceback; exit.

    What a user's own network raises is reported in one line instead.
    """
    if not isinstance(error, Exception):  # an interrupt
        return sys.__excepthook__(kind, error, trace)
    place = _user_code(trace)
    if place is not None:
        line = f"{place} raises {kind.__name__}: {str(error)[:200]}: mend the network's code"
        sys.exit(_report(line, MISTAKE))
    _report(f"this is a bug in gmpq, please report it: {kind.__name__}: {str(error)[:200]}", BUG)
    versions = f"gmpq {version('gmpq')}, Python {platform.python_version()}, {platform.platform()}"
    stack = "".join(traceback.format_exception(kind, error, trace))
    text = f"{shlex.join(sys.argv)}\n{versions}\n\n{stack}"
    try:
        with tempfile.NamedTemporaryFile(prefix="gmpq-bug-", suffix=".txt", delete=False) as file:
            file.write(text.encode(errors="backslashreplace"))
        click.echo(f"traceback: {file.name}", err=True)
    except OSError:
        click.echo(text, err=True)
    sys.exit(BUG)


def _user_code(trace: TracebackType | None) -> str | None:
    """Return the innermost line of a traceback that is neither gmpq's nor a library's, if any."""
    places = [
        f"{frame.f_code.co_filename}, line {line}"
        for frame, line in traceback.walk_tb(trace)
        if _is_users(frame)
    ]
    return places[-1] if places else None


def _is_users(frame: FrameType) -> bool:
    module = frame.f_globals.get("__package__") or frame.f_globals.get("__name__", "")
    path = Path(frame.f_code.co_filename)
    ours = module.partition(".")[0] in ("gmpq", "__main__")
    return not ours and path.is_file() and not any(map(path.is_relative_to, LIBRARIES))


def _unraisable(ignored: sys.UnraisableHookArgs) -> None:
    """Send a signal again whose exception Python drops, as it does while it deletes an object."""
    match ignored.exc_value:
        case KeyboardInterrupt():
            Timer(AGAIN_S, os.kill, (os.getpid(), signal.SIGINT)).start()
        case SystemExit(code=int(code)) if code > SIGNALLED:
            Timer(AGAIN_S, os.kill, (os.getpid(), code - SIGNALLED)).start()
        case _:
            sys.__unraisablehook__(ignored)


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(SIGNALLED + number)  # an exception, so that unfinished output is removed
