"""Commands that name the new option where an old one is given."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import click

NAMES: Mapping[str, str] = MappingProxyType(
    {
        "--activation-bits": "--input-bits",
        "--arch": "the argument NETWORK",
        "--augment": "--crop and --flip",
        "--ends": "--include-first-last",
        "--free-steps": "--keep-decreasing",
        "--from": "--weight-bits and --input-bits",
        "--mean": '"model": {"input": {"mean": ...}} in a policy file as NETWORK',
        "--no-augment": "--no-crop and --no-flip",
        "--rate": "--lr",
        "--resize": '"model": {"input": {"resize": ...}} in a policy file as NETWORK',
        "--shape": '"model": {"input": {"shape": ...}} in a policy file as NETWORK',
        "--std": '"model": {"input": {"std": ...}} in a policy file as NETWORK',
        "--teacher": "--weights",
        "--val": "--validation",
    }
)


class RenamedOptions(click.Command):
    """A command whose users may know options by their old names."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse ``args``; an old option is an error that gives the new name."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            new = self.renamed(error.option_name)
            if new is None:
                raise
            message = f"No such option: {error.option_name}: it is now {new}"
            raise click.UsageError(message, ctx) from error

    def renamed(self, option: str) -> str | None:
        """Return what ``option`` is called now; None if it is unknown."""
        return NAMES.get(option)
