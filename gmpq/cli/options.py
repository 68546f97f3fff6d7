"""Options that several commands share, and what makes options of the fields of a dataclass."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, fields
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from gmpq.cli.types import PATH, EnumChoice

if TYPE_CHECKING:
    from gmpq.inputs.compile_inputs import Sources

Command: TypeAlias = Callable[..., Any]
Option: TypeAlias = Callable[[Command], Command]  # a decorator


def field_option(
    owner: Any,
    name: str,
    flag: str | None = None,
    argument: str | None = None,
    **attributes: Any,
) -> Option:
    """Return the option of a field of a dataclass, whose default is the field's.

    A boolean that is true becomes ``--flag/--no-flag``, one that is false ``--flag``, an
    enumeration a choice of its values; of other fields click takes the type from the default,
    unless ``type`` is given.

    Args:
        owner: the dataclass, or an instance that has the defaults.
        name: of the field.
        flag: the option's name without dashes; the field's unless given.
        argument: the command's; the field's name unless given.
        attributes: as for ``click.option``.
    """
    default = _default(owner, name)
    shown = flag or name.replace("_", "-")
    if isinstance(default, Enum):
        attributes.setdefault("type", EnumChoice(type(default)))
        default = default.value
    declaration = f"--{shown}/--no-{shown}" if default is True else f"--{shown}"
    if default is False:
        attributes.setdefault("is_flag", True)
    attributes.setdefault("show_default", default is not None and default is not False)
    return click.option(declaration, argument or name, default=default, **attributes)


def _default(owner: Any, name: str) -> Any:
    (found,) = (each for each in fields(owner) if each.name == name)
    if not isinstance(owner, type):
        return getattr(owner, name)
    return _default_of(found)


def _default_of(field: Field[Any]) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    assert field.default is not MISSING, f"{field.name} has a default"
    return field.default


def grouped(argument: str, make: Callable[..., Any], options: Sequence[Option]) -> Option:
    """Return a decorator that adds ``options`` and passes ``make`` of their values on.

    Args:
        argument: the command's argument that receives what ``make`` returns.
        make: called with the value of every option by name when the command runs.
        options: of the command, in the order of its help.
    """
    names = [parameter.name for parameter in _parameters(options)]

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def run(**given: Any) -> Any:
            own = {name: given.pop(name) for name in names if name is not None}
            return command(**{argument: make(**own)}, **given)

        decorated: Command = run
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate


def _parameters(options: Sequence[Option]) -> list[click.Parameter]:
    """Return the parameters that ``options`` add to a command."""

    def command() -> None:
        """Do nothing."""

    for option in options:
        option(command)
    found: list[click.Parameter] = command.__dict__["__click_params__"]
    return found


def sources_options(command: Command) -> Command:
    """Add what names the policy, its network and the images, as one argument ``sources``."""
    return grouped("sources", _sources, (click.argument("policy", type=PATH), *NETWORK, *IMAGES))(
        command
    )


def _sources(
    policy: Path,
    weights: str | None,
    factory: str | None,
    calibration: tuple[str, ...],
    images: int | None,
) -> Sources:
    from gmpq.inputs.compile_inputs import Sources

    return Sources(policy, weights, factory, calibration, images)


NETWORK = (
    click.option("--weights", help="Weights file, package:NAME/PATH, or random[:SEED]."),
    click.option("--import", "factory", metavar="MODULE:FACTORY", help="Your own network."),
)
MOST_IMAGES = click.option("--images", type=click.IntRange(1), help="Use at most this many images.")
IMAGES = (
    click.option(
        "--calibration",
        multiple=True,
        metavar="LOCATION",
        help="Folder of photographs, .npy or .npz array, or package:NAME/PATH; repeatable."
        "  [default: the policy's]",
    ),
    MOST_IMAGES,
)
