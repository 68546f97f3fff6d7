"""``gmpq search gmpq`` and ``gmpq search edmips``: the same search with and without attribution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gmpq.cli.types import NUMBERS, PATH, POSITIVE, WHOLE_NUMBERS

if TYPE_CHECKING:
    from gmpq.search.differentiable.options import Request

Command = TypeVar("Command", bound=Callable[..., object])

# Listed here, so that --help needs no torch; a test holds them to gmpq.search.differentiable.
QUANTIZERS = ("haq", "running", "lsq", "hwgq")
CLASSES = ("own", "teacher", "label")

EXAMPLE = """\b
Examples:
  gmpq search {name} --arch cifar_resnet18 --data cifar10/ --bops 15.3e9 -o policy.json
  torchrun --no-python --nproc-per-node 2 gmpq search {name} --arch cifar_resnet18 \\
      --for resnet18 --data cifar10.npz --bops 35e9 -o policy.json
"""


@dataclass(frozen=True, slots=True)
class Defaults:
    """Where the two methods differ."""

    name: str
    quantizers: str
    weight_bits: str
    activation_bits: str
    attribution_weight: float
    complexity_weight: float


GMPQ = Defaults("gmpq", "haq", "2,3,4,6", "2,3,4,6", 40.0, 3e-4)
EDMIPS = Defaults("edmips", "hwgq", "1,2,3,4", "2,3,4", 0.0, 3.35e-3)


def options(defaults: Defaults) -> Callable[[Command], Command]:
    """Return a decorator that gives a command all options of a search."""

    def decorate(command: Command) -> Command:
        for option in reversed(_options(defaults)):
            command = option(command)
        return command

    return decorate


def _options(defaults: Defaults) -> tuple[Callable[[Any], Any], ...]:
    return (*_what(), *_bounds(), *_space(defaults), *_training(defaults), *_files())


def _what() -> tuple[Callable[[Any], Any], ...]:
    return (
        click.option("--arch", help="Built-in network to search on."),
        click.option("--import", "factory", metavar="MODULE:FACTORY", help="Your own network."),
        click.option("--shape", type=WHOLE_NUMBERS, help="Image as C,H,W.  [default: the arch's]"),
        click.option("--classes", type=click.IntRange(2), help="Give the classifier so many."),
        click.option("--keep", multiple=True, metavar="LAYER", help="Do not search; repeatable."),
        click.option(
            "--data",
            multiple=True,
            required=True,
            metavar="LOCATION",
            help="Folder with a folder per class, or .npz of images and labels; repeatable.",
        ),
        click.option("--validation", multiple=True, metavar="LOCATION", help="To report on."),
        click.option("--images", type=click.IntRange(2), help="Use at most so many."),
        click.option("--mean", type=NUMBERS, help="Per channel, of photographs; white is 1."),
        click.option("--std", type=NUMBERS, help="Per channel."),
        click.option("--resize", type=click.IntRange(1), help="Scale the shorter side to this."),
    )


def _bounds() -> tuple[Callable[[Any], Any], ...]:
    return (
        click.option(
            "--bops",
            type=POSITIVE,
            help="Most BOPs, all layers at their real bits.",
        ),
        click.option(
            "--published-bops",
            type=POSITIVE,
            help="Most BOPs, as papers count them.",
        ),
        click.option(
            "--bisect",
            type=click.IntRange(1, 20),
            metavar="RUNS",
            help="Search so often with other --complexity-weight instead of assigning bits.",
        ),
        click.option("--for", "deploy", metavar="ARCH", help="Count BOPs of this network instead."),
        click.option("--fixed-bits", type=click.IntRange(1, 8), default=8, show_default=True),
    )


def _space(defaults: Defaults) -> tuple[Callable[[Any], Any], ...]:
    return (
        click.option(
            "--weight-bits",
            type=WHOLE_NUMBERS,
            default=defaults.weight_bits,
            show_default=True,
        ),
        click.option(
            "--activation-bits",
            type=WHOLE_NUMBERS,
            default=defaults.activation_bits,
            show_default=True,
        ),
        click.option(
            "--quantizers",
            type=click.Choice(QUANTIZERS),
            default=defaults.quantizers,
            show_default=True,
            help="haq: as GMPQ released; running, lsq: other weights; hwgq: as EdMIPS.",
        ),
    )


def _training(defaults: Defaults) -> tuple[Callable[[Any], Any], ...]:
    return (
        click.option(
            "--attribution-weight",
            type=click.FloatRange(0),
            default=defaults.attribution_weight,
            show_default=True,
            help="0 needs no float network.",
        ),
        click.option(
            "--complexity-weight",
            type=POSITIVE,
            default=defaults.complexity_weight,
            show_default=True,
        ),
        click.option("--theta", type=click.FloatRange(0), default=24.0, show_default=True),
        click.option("--power", type=click.FloatRange(0), help="Constant, instead of by --theta."),
        click.option(
            "--explain-class",
            type=click.Choice(CLASSES),
            default="own",
            show_default=True,
            help="Whose evidence the maps show.",
        ),
        click.option("--epochs", type=click.IntRange(1), default=25, show_default=True),
        click.option("--batch", type=click.IntRange(2), default=256, show_default=True),
        click.option("--lr", type=float, default=0.1, show_default=True),
        click.option("--logits-lr", type=float, default=0.01, show_default=True),
        click.option("--momentum", type=float, default=0.9, show_default=True),
        click.option("--weight-decay", type=float, default=1e-4, show_default=True),
        click.option("--decay-every", type=click.IntRange(1), default=10, show_default=True),
        click.option("--crop/--no-crop", default=True, show_default=True, help="At random."),
        click.option("--flip/--no-flip", default=True, show_default=True, help="At random."),
        click.option("--teacher", help="Weights of the float network.  [default: train it first]"),
        click.option("--teacher-epochs", type=click.IntRange(1), default=30, show_default=True),
        click.option("--teacher-lr", type=float, default=0.1, show_default=True),
        click.option("--seed", type=click.IntRange(0), default=0, show_default=True),
        click.option("--device", default="cpu", show_default=True),
    )


def _files() -> tuple[Callable[[Any], Any], ...]:
    return (
        click.option("--out", "-o", type=PATH, required=True, help="The policy to write."),
        click.option("--work", type=PATH, help="Checkpoint and log.  [default: OUT.search]"),
        click.option("--resume", is_flag=True, help="Go on from the checkpoint in --work."),
    )


@click.command("gmpq", epilog=EXAMPLE.format(name="gmpq"))
@options(GMPQ)
def gmpq_command(**given: Any) -> None:
    """Search by GMPQ: as accurate, and looking at the same pixels as a float network.

    Runs on a small data set; the policy holds for a network with the same layers (--for).
    """
    _search(GMPQ, given)


@click.command("edmips", epilog=EXAMPLE.format(name="edmips"))
@options(EDMIPS)
def edmips_command(**given: Any) -> None:
    """Search by EdMIPS: GMPQ without its attribution loss."""
    _search(EDMIPS, given)


def _search(defaults: Defaults, given: dict[str, Any]) -> None:
    from gmpq.cli.terminal import Terminal
    from gmpq.progress import Silent
    from gmpq.search.differentiable.run import search_policy
    from gmpq.training.processes import joined, rank

    request = _request(defaults, given)
    with joined():
        report = search_policy(request, Silent() if rank() else Terminal())
        if rank() == 0:
            click.echo(f"{report}\n{request.out}: written")


def _request(defaults: Defaults, given: dict[str, Any]) -> Request:
    """Return what is asked; the fields that need no other type have the options' names."""
    from gmpq.search.differentiable.options import Request

    return Request(method=defaults.name, **given)
