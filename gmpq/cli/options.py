"""Options that several commands share, and what makes options of the fields of a dataclass."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, fields
from enum import Enum
from pathlib import Path
from typing import Any, TypeAlias

import click

from gmpq.cli.types import BITS, NUMBERS, PATH, POSITIVE, EnumChoice, MeanProduct

Command: TypeAlias = Callable[..., Any]
Option: TypeAlias = Callable[[Command], Command]  # a decorator


def field_option(owner: Any, name: str, flag: str | None = None, **attributes: Any) -> Option:
    """Return the option of a field of a dataclass, whose default is the field's.

    A boolean that is true becomes ``--flag/--no-flag``, one that is false ``--flag``, an
    enumeration a choice of its values; of other fields click takes the type from the default,
    unless ``type`` is given.

    Args:
        owner: the dataclass, or an instance that has the defaults.
        name: of the field, and of the command's argument.
        flag: the option's name without dashes; the field's unless given.
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
    return click.option(declaration, name, default=default, **attributes)


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


def sources_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what names the policy, its network and the images, as one argument ``sources``."""

    @click.argument("policy", type=PATH)
    @click.option("--weights", help="Weights file, package:NAME/PATH, or random[:SEED].")
    @click.option("--import", "factory", metavar="MODULE:FACTORY", help="Your own network.")
    @click.option(
        "--calibration",
        multiple=True,
        metavar="LOCATION",
        help="Folder of photographs, .npy or .npz array, or package:NAME/PATH; repeatable."
        "  [default: the policy's]",
    )
    @click.option("--images", type=click.IntRange(1), help="Calibrate on at most so many images.")
    @functools.wraps(command)
    def run(
        *,
        policy: Path,
        weights: str | None,
        factory: str | None,
        calibration: tuple[str, ...],
        images: int | None,
        **rest: Any,
    ) -> Any:
        from gmpq.inputs.job import Sources

        return command(sources=Sources(policy, weights, factory, calibration, images), **rest)

    return run


def network_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what names the network, as one argument ``source`` without data."""

    @click.argument("network")
    @click.option("--weights", help="Weights file, package:NAME/PATH, or random[:SEED].")
    @click.option("--import", "factory", metavar="MODULE:FACTORY", help="Your own network.")
    @functools.wraps(command)
    def run(*, network: str, weights: str | None, factory: str | None, **rest: Any) -> Any:
        from gmpq.search import network_source

        return command(source=network_source.find(network, weights, factory), **rest)

    return run


def bound_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the bounds of a search, as one argument ``bounds``."""

    @click.option("--bops", type=POSITIVE, help="Most BOPs, all layers at their real bits.")
    @click.option("--published-bops", type=POSITIVE, help="Most BOPs, as papers count them.")
    @click.option(
        "--bits",
        "mean_product",
        type=MeanProduct(),
        help="Most BOPs of the searched layers: those of uniform bits, 4 or w3a4.",
    )
    @click.option("--size", "size_mb", type=POSITIVE, help="Most MB (10^6 bytes) of weights.")
    @click.option("--compression", type=POSITIVE, help="Least ratio of float32 weights to these.")
    @click.option("--latency", "latency_ms", type=POSITIVE, help="Most milliseconds by the table.")
    @click.option("--latency-table", "table", type=PATH, help="Measured times of layers, as JSON.")
    @functools.wraps(command)
    def run(
        *,
        bops: float | None,
        published_bops: float | None,
        mean_product: float | None,
        size_mb: float | None,
        compression: float | None,
        latency_ms: float | None,
        table: Path | None,
        **rest: Any,
    ) -> Any:
        from gmpq.search.ilp import latency_table
        from gmpq.search.ilp.bounds import Bounds

        times = None if table is None else latency_table.read(table)
        bounds = Bounds(bops, published_bops, mean_product, size_mb, compression, latency_ms, times)
        bounds.check()  # before anything is measured or trained
        return command(bounds=bounds, **rest)

    return run


def candidate_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the bits to choose from."""
    for option in (
        click.option("--weight-bits", type=BITS, help="To choose from.  [default: 2,3,4,5,6]"),
        click.option("--input-bits", type=BITS, help="To choose from.  [default: 2,3,4,5,6]"),
        click.option("--ends", is_flag=True, help="Search the first and last layer too."),
    ):
        command = option(command)
    return command


def loss_options(alpha: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return what adds how losses are weighed and kept; ``alpha`` is the default."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in (
            click.option(
                "--indicators",
                type=PATH,
                help="Losses: read if the file is there, else written."
                "  [default: OUT.indicators.json]",
            ),
            click.option("--reverse", is_flag=True, help="Choose the worst: a check of losses."),
            click.option(
                "--alpha",
                "alphas",
                type=NUMBERS,
                default=alpha,
                show_default=True,
                help="Part of the weights in the losses; several give a policy each.",
            ),
        ):
            command = option(command)
        return command

    return add


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add where the policy goes; that its folder exists is checked before anything else."""

    @click.option("-o", "--out", type=PATH, required=True, help="Policy file to write.")
    @click.option("--plot", type=PATH, help="Draw the policy too: .png, .svg or .pdf.")
    @functools.wraps(command)
    def run(*, out: Path, plot: Path | None, **rest: Any) -> Any:
        from gmpq.errors import OutputError

        for path in (out, plot):
            if path is not None and not path.parent.is_dir():
                raise OutputError(f"{path}: there is no folder {path.parent}: make it")
        return command(out=out, plot=plot, **rest)

    return run
