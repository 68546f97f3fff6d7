"""``gmpq search gmpq`` and ``gmpq search edmips``: the same search with and without attribution."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gmpq.cli.answer import Output, write
from gmpq.cli.options import Option, field_option, grouped
from gmpq.cli.renamed import RenamedOptions
from gmpq.cli.search_options import (
    OUTPUT,
    CandidateOptions,
    candidate_options,
    optional_bound_options,
    training_options,
)
from gmpq.cli.types import PATH, POSITIVE
from gmpq.search.differentiable.settings import (
    EDMIPS,
    GMPQ,
    CapacityPower,
    ConstantPower,
    Recipe,
    Settings,
    TeacherRecipe,
)

if TYPE_CHECKING:
    from gmpq.search.differentiable.options import NetworkOptions, Request
    from gmpq.search.ilp.bounds import Bounds
    from gmpq.search.network_source import NetworkSource

EXAMPLE = """\b
Examples:
  gmpq search {name} cifar_resnet18 --data cifar10/ --bops 15.3e9 -o policy.json
  torchrun --no-python --nproc-per-node 2 gmpq search {name} cifar_resnet18 \\
      --for resnet18 --data cifar10.npz --bops 35e9 -o policy.json
"""
RECIPE = (
    field_option(Recipe, "epochs", type=click.IntRange(1)),
    field_option(Recipe, "batch", type=click.IntRange(2), help="Images per step, all processes."),
    field_option(Recipe, "lr", help="Learning rate of the weights."),
    field_option(Recipe, "logits_lr", help="Learning rate of the logits."),
    field_option(Recipe, "momentum"),
    field_option(Recipe, "weight_decay", help="On weights and logits."),
    field_option(Recipe, "decay_every", type=click.IntRange(1), help="Epochs between rate decays."),
    field_option(Recipe, "crop", help="Random crops."),
    field_option(Recipe, "flip", help="Random horizontal flips."),
)
POWER = (
    field_option(
        CapacityPower,
        "theta",
        type=click.FloatRange(0),
        help="The power of the float network's maps is THETA * mean(1 / (w a)).",
    ),
    click.option("--power", type=click.FloatRange(0), help="Constant, instead of by --theta."),
)
SUPERNET = (
    click.option("--classes", type=click.IntRange(2), help="Outputs of the classifier."),
    click.option(
        "--keep", multiple=True, metavar="LAYER", help="Convolution not to search; repeatable."
    ),
    click.option("--for", "deploy", metavar="NETWORK", help="Network that the policy is for."),
    click.option(
        "--fixed-bits",
        type=click.IntRange(1, 8),
        default=8,
        show_default=True,
        help="Bits of the layers that are not searched.",
    ),
    click.option(
        "--validation", multiple=True, metavar="LOCATION", help="Labelled images to report on."
    ),
    click.option(
        "--bisect",
        type=click.IntRange(1, 20),
        metavar="RUNS",
        help="Meet a bound on BOPs by at most RUNS searches with other --complexity-weight instead "
        "of by assigning bits.",
    ),
    field_option(
        TeacherRecipe, "epochs", "teacher-epochs", "teacher_epochs", type=click.IntRange(1)
    ),
    field_option(TeacherRecipe, "lr", "teacher-lr", "teacher_lr"),
)
PLACE = (
    *OUTPUT,
    click.option("--work", type=PATH, help="Folder of checkpoint and log.  [default: OUT.search]"),
    click.option("--resume", is_flag=True, help="Continue from the checkpoint in --work."),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SupernetOptions:
    """What a search by a supernet takes besides the options of all methods."""

    classes: int | None
    keep: tuple[str, ...]
    deploy: str | None
    fixed_bits: int
    validation: tuple[str, ...]
    bisect: int | None
    teacher_epochs: int
    teacher_lr: float

    def network(self) -> NetworkOptions:
        """Return how the searched network differs from NETWORK."""
        from gmpq.policy import LayerBits
        from gmpq.search import network_source
        from gmpq.search.differentiable.options import NetworkOptions

        deploy = None if self.deploy is None else network_source.find(self.deploy)
        fixed = LayerBits(self.fixed_bits, self.fixed_bits)
        return NetworkOptions(self.classes, self.keep, deploy, fixed)

    def teacher(self) -> TeacherRecipe:
        """Return how the float network is trained."""
        return TeacherRecipe(self.teacher_epochs, lr=self.teacher_lr)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the policy is written, and where checkpoint and log are kept."""

    output: Output
    work: Path
    resume: bool


def _settings(preset: Settings) -> Option:
    """Return what adds the settings, with the defaults of ``preset``, as one argument."""
    own = (
        field_option(
            preset,
            "quantizers",
            help="haq: as GMPQ released; running, lsq: other weights; hwgq: as EdMIPS.",
        ),
        field_option(
            preset, "attribution_weight", type=click.FloatRange(0), help="0: no float network."
        ),
        field_option(preset, "complexity_weight", type=POSITIVE),
        field_option(
            preset, "explained", "explain-class", help="Class whose evidence the maps show."
        ),
        field_option(preset, "seed", type=click.IntRange(0)),
        field_option(preset, "device", help="cpu or cuda."),
    )

    def make(theta: float, power: float | None, **given: Any) -> Settings:
        recipe = {name: given.pop(name) for name in Recipe.__dataclass_fields__ if name in given}
        return replace(
            preset,
            recipe=Recipe(**recipe),
            power=CapacityPower(theta) if power is None else ConstantPower(power),
            **given,
        )

    return grouped("settings", make, (*own, *POWER, *RECIPE))


def _place(out: Path, plot: Path | None, work: Path | None, resume: bool) -> Place:
    return Place(Output(out, plot), work or out.with_suffix(".search"), resume)


def _command(method: str, preset: Settings, text: str) -> click.Command:
    """Return the command of ``method``, whose defaults are those of ``preset``."""

    @click.command(method, cls=RenamedOptions, help=text, epilog=EXAMPLE.format(name=method))
    @training_options
    @optional_bound_options
    @candidate_options(preset.candidates)
    @grouped("options", SupernetOptions, SUPERNET)
    @_settings(preset)
    @grouped("place", _place, PLACE)
    def command(
        source: NetworkSource,
        bounds: Bounds,
        candidates: CandidateOptions,
        options: SupernetOptions,
        settings: Settings,
        place: Place,
    ) -> None:
        from gmpq.search.differentiable.options import Files, Request

        if candidates.include_first_last:
            raise click.UsageError(
                f"--include-first-last: {method} never searches the first convolution: leave it out"
            )
        request = Request(
            method=method,
            source=source,
            out=place.output.out,
            files=Files(place.work, place.resume),
            settings=replace(settings, candidates=candidates.candidates(preset.candidates)),
            bounds=bounds,
            network=options.network(),
            teacher=options.teacher(),
            validation=options.validation,
            bisect=options.bisect,
        )
        _search(request, place.output)

    return command


def _search(request: Request, output: Output) -> None:
    from gmpq.cli.terminal import Terminal
    from gmpq.progress import Silent
    from gmpq.search.differentiable.run import search_policy
    from gmpq.training.processes import joined, rank

    with joined():
        found = search_policy(request, Silent() if rank() else Terminal())
        if rank() == 0:
            click.echo(f"{found.summary}\n")
            write(found.policy, found.space, output)


gmpq_command = _command(
    "gmpq",
    GMPQ,
    """Search by GMPQ: as accurate as, and attributing like, a float network.

    Runs on a small data set; the policy holds for a network with the same layers (--for).
    """,
)
edmips_command = _command("edmips", EDMIPS, "Search by EdMIPS: GMPQ without its attribution loss.")
