"""The `fmfbench` command: a group whose errors are one line and an exit code."""

from __future__ import annotations

import importlib
from typing import Any

import click

from fmfbench.errors import FmfbenchError

# Each command and the module that holds it as `command`: imported when it is called, so that --help is instant
# and a command whose packages are missing does not stand in the way of the others.
_COMMANDS = {
    "demo": ".demo",
    "simulate": ".simulate",
    "convert": ".convert",
    "info": ".info",
    "view": ".view",
    "annotate": ".annotate",
    "verify": ".verify",
    "labels": ".labels",
    "score": ".score",
    "compare": ".compare",
    "audit": ".audit",
    "models": ".models",
    "train": ".train",
    "predict": ".predict",
    "reproduce": ".reproduce",
}


class CommandGroup(click.Group):
    """Commands by name; what the library raises on purpose becomes one line on stderr."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = _COMMANDS.get(cmd_name)
        if module is None:
            return None
        command: click.Command = importlib.import_module(module, __package__).command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FmfbenchError as error:
            failure = click.ClickException(" ".join(str(error).split()))
            failure.exit_code = error.exit_code
            raise failure from error
        except KeyboardInterrupt:
            raise click.ClickException(
                "interrupted; a conversion or a run goes on when called again"
            ) from None


@click.group(
    cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="fmfbench")
def main() -> None:
    """The toolkit of FMF-Benchmark: recordings in, windows and scores out.

    \b
    fmfbench demo                      everything once, on simulated data
    fmfbench convert SOURCE fmf.zarr   recordings into a store
    fmfbench view fmf.zarr -o out.png  look at it
    fmfbench score predictions.npz --data fmf.zarr
    """
