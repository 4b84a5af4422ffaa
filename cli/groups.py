"""Groups of commands that know what a mistyped name was meant to be."""

from __future__ import annotations

import click

from fmfbench.files.wording import did_you_mean

__all__ = ["SuggestingGroup"]


class SuggestingGroup(click.Group):
    """A group that names the command that was probably meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        known = self.list_commands(ctx)
        if not name.startswith("-") and name not in known and not ctx.resilient_parsing:
            ctx.fail(f"No such command {name!r}{did_you_mean(name, known)}")
        return super().resolve_command(ctx, args)
