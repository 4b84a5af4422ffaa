"""The `fmfbench` command: commands by what they are for, whose errors are one line and an exit code."""

from __future__ import annotations

import errno
import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from click.exceptions import NoArgsIsHelpError

from fmfbench.errors import FmfbenchError
from fmfbench.files.disk_cache import parse_size

from .groups import SuggestingGroup

# Commands by what they are for, in the order of use. Each is `command` in the module of its name, imported when it is
# called, so that --help is instant and a command whose packages are missing does not stand in the way of the others.
SECTIONS = {
    "Begin": ("demo", "simulate"),
    "Recordings and stores": ("doctor", "convert", "merge", "info", "view", "verify", "audit", "card"),
    "Labels": ("studio", "annotate", "split", "labels"),
    "Models": ("models", "train", "calibrate", "predict", "watch"),
    "Scores": ("score", "compare", "board", "outliers", "reproduce", "unsupervised"),
}
_NAMES = tuple(name for names in SECTIONS.values() for name in names)
# What the same call does after an interrupt; the other commands leave nothing behind.
_RESUMES = {
    "simulate": "the same call keeps the recordings that are finished and makes the rest",
    "convert": "the same call resumes the conversion",
    "annotate": "the same call resumes; no layer is left half-written",
    "split": "the store is as it was; the same call makes the split",
    "train": "the same call resumes the run from its last checkpoint",
    "reproduce": "the same call resumes; rows that are finished are kept",
    "unsupervised": "the same call resumes; what is done is kept",
    "demo": "the same call starts the demo over",
}


class CommandGroup(SuggestingGroup):
    """Commands by name; what goes wrong on purpose, or in the file system, becomes one line on stderr."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_NAMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _NAMES:
            return None
        command: click.Command = importlib.import_module(f".{cmd_name}", __package__).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(len(name) for name in _NAMES)
        for section, names in SECTIONS.items():
            commands = [(name, self.get_command(ctx, name)) for name in names]
            limit = formatter.width - 6 - width
            rows = [(name.ljust(width), c.get_short_help_str(limit)) for name, c in commands if c is not None]
            with formatter.section(section):
                formatter.write_dl(rows)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with _one_line():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        with _one_line(ctx):
            return super().invoke(ctx)


class _Failed(click.ClickException):
    exit_code = 1


class _BadInput(click.ClickException):
    exit_code = 2


class _Interrupted(click.ClickException):
    exit_code = 130  # 128 + SIGINT, as shells have it


@contextmanager
def _one_line(ctx: click.Context | None = None) -> Iterator[None]:
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
        name = ctx.invoked_subcommand if ctx is not None else None
        resumes = _RESUMES.get(name or "")
        raise _Interrupted("interrupted" + (f"; {resumes}" if resumes else "")) from None


def _failure(text: str, exit_code: int) -> click.ClickException:
    kind = _BadInput if exit_code == _BadInput.exit_code else _Failed
    return kind(" ".join(text.split()))


@click.group(
    cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="fmfbench")
@click.option(
    "--disk-cache",
    metavar="FOLDER",
    help="Keep on this disk what is read of stores behind a URL.",
)
@click.option("--disk-cache-size", metavar="SIZE", help="What it takes at most, as 500MB.  [default: 20GB]")
def main(disk_cache: str | None, disk_cache_size: str | None) -> None:
    """The toolkit of FMF-Benchmark: recordings in, windows and scores out.

    \b
    fmfbench demo                      everything once, on simulated data
    fmfbench convert SOURCE fmf.zarr   recordings into a store
    fmfbench view fmf.zarr -o out.png  look at it
    fmfbench score predictions.npz --data fmf.zarr
    """
    # In the environment, so that worker processes, however they are started, keep to it too.
    if disk_cache is not None:
        os.environ["FMFBENCH_DISK_CACHE"] = os.path.abspath(disk_cache)
    if disk_cache_size is not None:
        parse_size(disk_cache_size)
        os.environ["FMFBENCH_DISK_CACHE_SIZE"] = disk_cache_size


if __name__ == "__main__":  # python -m fmfbench_cli.main; the usual way is python -m fmfbench
    main(prog_name="fmfbench")
