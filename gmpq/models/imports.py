"""A user's own network, named on the command line and never by a data file."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from torch import nn

from gmpq.errors import LoweringError, closest

# What code written by a user may raise when it is run here.
USER_CODE_ERRORS = (
    RuntimeError,
    TypeError,
    ValueError,
    NameError,
    AttributeError,
    LookupError,
    ArithmeticError,
    AssertionError,
    ImportError,
    OSError,
)


def first_line(error: BaseException) -> str:
    """Return the first line of what ``error`` says, or its kind if it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def import_factory(text: str) -> nn.Module:
    """Return the network that the function or class ``text`` makes when called with nothing.

    Args:
        text: ``package.module:factory``; modules of the working directory are found as well.

    Raises:
        LoweringError: ``text`` is not of that form, the module or the factory is missing, or the
            factory needs arguments, fails or returns something else than a module.
    """
    module_name, colon, factory_name = text.partition(":")
    if not colon or not all(part.isidentifier() for part in module_name.split(".")):
        raise LoweringError(f"{text}: expected package.module:factory, as in mynets.small:build")
    with _working_directory_on_path():
        module = _import(text, module_name)
        if factory_name not in vars(module):
            raise LoweringError(
                f"{text}: module {module_name} has no {factory_name!r}"
                f"{closest(factory_name, vars(module))}"
            )
        return _call(text, vars(module)[factory_name])


def _import(text: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        cure = (
            f"is it in {Path.cwd()} or installed?"
            if f"{name}.".startswith(f"{error.name}.")
            else "install it"
        )
        raise LoweringError(f"{text}: there is no module {error.name!r}: {cure}") from error
    except (SyntaxError, *USER_CODE_ERRORS) as error:
        raise LoweringError(
            f"{text}: module {name} cannot be imported: {first_line(error)}"
        ) from error


def _call(text: str, factory: object) -> nn.Module:
    if isinstance(factory, nn.Module):
        return factory
    if not callable(factory):
        raise LoweringError(f"{text}: is {type(factory).__name__}, not a function or class")
    required = required_inputs(factory)
    if required:
        raise LoweringError(f"{text}: needs arguments ({', '.join(required)}): it must need none")
    try:
        network = factory()
    except USER_CODE_ERRORS as error:
        raise LoweringError(
            f"{text}: fails: {type(error).__name__}: {first_line(error)}"
        ) from error
    if not isinstance(network, nn.Module):
        raise LoweringError(f"{text}: returned {type(network).__name__}, not a torch.nn.Module")
    return network


def required_inputs(function: Callable[..., object]) -> list[str]:
    """Return the names of the arguments that ``function`` cannot be called without."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # compiled code does not always say
        return []
    return [
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]


@contextmanager
def _working_directory_on_path() -> Iterator[None]:
    """Find modules of the working directory too, as ``python`` itself would."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
