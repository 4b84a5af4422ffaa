"""The `fmfbench` command: a group whose errors are one line and an exit code."""

from __future__ import annotations

import errno
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from click.exceptions import NoArgsIsHelpError

from fmfbench.errors import FmfbenchError

# Each command and the module that holds it as `command`: imported when it is called, so that --help is instant
# and a command whose packages are missing does not stand in the way of the others.
_COMMANDS = {
    "demo": ".demo",
    "simulate": ".simulate",
    "convert": ".convert",
    "merge": ".merge",
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
    "outliers": ".outliers",
    "reproduce": ".reproduce",
}


class CommandGroup(click.Group):
    """Commands by name; what goes wrong on purpose, or in the file system, becomes one line on stderr."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = _COMMANDS.get(cmd_name)
        if module is None:
            return None
        command: click.Command = importlib.import_module(module, __package__).command
        return command

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with _one_line():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        with _one_line():
            return super().invoke(ctx)


@contextmanager
def _one_line() -> Iterator[None]:
    """Turns errors into click's own, of one line and with their exit code."""
    try:
        yield
    except FmfbenchError as error:
        raise _failure(str(error), error.exit_code) from error
    except NoArgsIsHelpError:  # shows the help, which is what was wanted
        raise
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx is not None else "fmfbench"
        text = error.format_message().removesuffix(".")
        raise _failure(f"{text}; see `{command} --help`", error.exit_code) from error
    except OSError as error:
        if error.errno == errno.EPIPE:  # whoever read the output has enough of it: click's to end
            raise
        name = error.filename2 or error.filename  # the target, where one is put in another's place
        where = f"{name}: " if name is not None else ""
        raise _failure(f"{where}{error.strerror or error}", 1) from error
    except KeyboardInterrupt:
        raise click.ClickException("interrupted; a conversion or a run resumes when called again") from None


def _failure(text: str, exit_code: int) -> click.ClickException:
    failure = click.ClickException(" ".join(text.split()))
    failure.exit_code = exit_code
    return failure


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
