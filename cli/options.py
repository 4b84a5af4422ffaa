"""Arguments and options that several commands share: each has one spelling, one kind and one help text."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fmfbench.errors import SourceError
from fmfbench.files.local import local_path
from fmfbench.files.remote import Place, parse_place

__all__ = [
    "LOCAL",
    "STORE",
    "LocalPath",
    "block_seconds_option",
    "cache_option",
    "cluster_options",
    "context_option",
    "data_option",
    "device_option",
    "json_option",
    "labels_option",
    "out_option",
    "parse_numbers",
    "print_result",
    "protocol_option",
    "readers_option",
    "resamples_option",
    "seed_option",
    "split_name_option",
    "split_option",
    "store_argument",
    "studio_option",
    "threads_option",
]

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
Decorator = Callable[[Decorated], Decorated]

if TYPE_CHECKING:
    _PlaceType = click.ParamType[Place]
else:
    _PlaceType = click.ParamType  # generic from click 8.4 on


class LocalPath(click.Path):
    """A path on this machine; a URL is refused, so that no folder called `s3:` is ever made."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        local_path(value)
        return super().convert(value, param, ctx)


class StorePath(_PlaceType):
    """A store to read: a path, or a URL."""

    name = "path or URL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Place:
        return parse_place(value)


LOCAL = LocalPath(path_type=Path)
STORE = StorePath()


class _Option(click.Option):
    """An option whose earlier spellings are still taken, and no longer shown."""

    def __init__(self, *args: Any, earlier: tuple[str, ...] = (), **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.earlier = earlier

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        spellings = self.opts
        self.opts = [spelling for spelling in spellings if spelling not in self.earlier]
        try:
            return super().get_help_record(ctx)
        finally:
            self.opts = spellings


def out_option(text: str, *, earlier: tuple[str, ...] = (), **settings: Any) -> Decorator[Any]:
    """`-o/--out`: the file or folder that the command writes; required unless it has a default."""
    settings.setdefault("type", LOCAL)
    settings.setdefault("required", "default" not in settings)
    settings.setdefault("show_default", "default" in settings)
    return click.option("-o", "--out", *earlier, "out", cls=_Option, earlier=earlier, help=text, **settings)


def store_argument() -> Decorator[Any]:
    return click.argument("store", type=STORE)


def data_option(text: str, *, required: bool = True) -> Decorator[Any]:
    return click.option("--data", type=STORE, required=required, help=text)


def labels_option() -> Decorator[Any]:
    return click.option("--labels", type=LOCAL, help="A labels.npz to score against, instead of a store.")


def json_option() -> Decorator[Any]:
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")


def seed_option(text: str) -> Decorator[Any]:
    return click.option("--seed", type=int, default=0, show_default=True, help=text)


def protocol_option(text: str = "Window protocol.", default: str | None = "paper") -> Decorator[Any]:
    return click.option("--protocol", default=default, show_default=default is not None, help=text)


def split_option(default: str = "test") -> Decorator[Any]:
    return click.option(
        "--split",
        default=default,
        show_default=True,
        help="train, test, unused, all, val, fit, loro-val:NAME, loro-fit:NAME, kfold-val:I/K or kfold-fit:I/K; of a "
        "named split: derived:test.",
    )


def split_name_option(more: str = "") -> Decorator[Any]:
    """more: what else it may name, for its help."""
    text = f"A stored split by its name, as in derived{more}.  [default: the store's default]"
    return click.option("--split", help=text)


def context_option(text: str, default: str | None = "full") -> Decorator[Any]:
    choices = click.Choice(["full", "masked", "strict"])
    return click.option(
        "--context", type=choices, default=default, show_default=default is not None, help=text
    )


def resamples_option() -> Decorator[Any]:
    return click.option(
        "--resamples", default=2000, show_default=True, help="Bootstrap resamples behind the intervals."
    )


def block_seconds_option() -> Decorator[Any]:
    return click.option(
        "--block-seconds", type=float, help="Length of the bootstrap's blocks.  [default: from the errors]"
    )


def device_option() -> Decorator[Any]:
    return click.option(
        "--device", type=click.Choice(["cpu", "cuda"]), help="[default: a GPU where there is one]"
    )


def readers_option() -> Decorator[Any]:
    return click.option(
        "--workers",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        help="Processes that read windows.",
    )


def threads_option(text: str = "Threads.  [default: all cores]") -> Decorator[Any]:
    return click.option("--workers", type=click.IntRange(min=1), help=text)


def cluster_options() -> Decorator[Any]:
    """`--scheduler` and `--processes`."""

    def decorate(command: Decorated) -> Decorated:
        address = click.option(
            "--scheduler",
            metavar="ADDRESS",
            help="Work on a Dask cluster, as tcp://host:8786 (fmfbench[dask]).",
        )
        count = click.option(
            "--processes", type=click.IntRange(min=1), help="Work in so many processes of this machine."
        )
        return address(count(command))

    return decorate


def studio_option() -> Decorator[Any]:
    return click.option(
        "--studio",
        metavar="URL",
        help="Where `fmfbench studio` serves the store: pages link to its frames, as URL#RECORDING/FRAME.",
    )


def cache_option() -> Decorator[Any]:
    return click.option(
        "--cache", type=click.Choice(["memory", "device"]), help="Keep the recordings in memory."
    )


def parse_numbers(text: str | None, separator: str, count: int, expected: str) -> Any:
    """So many whole numbers of an option, or None where it was not given; SourceError begins with `expected`."""
    if text is None:
        return None
    parts = text.lower().split(separator)
    if len(parts) != count or not all(part.strip().isdecimal() for part in parts):
        raise SourceError(f"{expected}, got {text!r}")
    return tuple(int(part) for part in parts)


def print_result(facts: Any, text: str, as_json: bool) -> None:
    """The result on standard output: one JSON document, or what a person reads."""
    click.echo(json.dumps(facts, indent=2) if as_json else text)
