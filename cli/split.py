"""`fmfbench split`: divide the recordings of a store into train and test."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fmfbench.errors import WindowError
from fmfbench.files.local import local_path

from .options import json_option, print_result, store_argument

if TYPE_CHECKING:
    from fmfbench.windows.division import Division, Stretch

_STRETCH = re.compile(r"(.+):(\d*\.?\d*)-(\d*\.?\d*)")


@click.command("split", short_help="Divide the recordings of a store into train and test.")
@store_argument()
@click.option("--name", default="derived", show_default=True, help="What the new split is called.")
@click.option(
    "--test", "share", metavar="SHARE", help="The last share of each recording is test: 0.2 or 20%."
)
@click.option(
    "--by-recording",
    "names",
    multiple=True,
    metavar="NAME,...",
    help="These recordings are test, the others train.",
)
@click.option(
    "--at",
    "stretches",
    multiple=True,
    metavar="NAME:A-B,...",
    help="Seconds A to B of these recordings are test.",
)
@click.option(
    "--protocol",
    default="paper",
    show_default=True,
    help="Guards between train and test are as long as its reach.",
)
@click.option("--as-default", is_flag=True, help="Make it the split that other commands take.")
@json_option()
def command(
    *,
    store: Path,
    name: str,
    share: str | None,
    names: tuple[str, ...],
    stretches: tuple[str, ...],
    protocol: str,
    as_default: bool,
    as_json: bool,
) -> None:
    """Divide the recordings of STORE into train and test, and keep that in it under a name.

    Between train and test lie guard frames, taken from train, as far as a window of the protocol reaches back. The
    split that came with the recordings stays, as `source`. Other commands take a part of the default split (`test`),
    or of another by its name (`derived:test`, `source:train`). With --as-default and a --name alone, a split that is
    there becomes the default.

    \b
    Example:
      fmfbench split run7.zarr --test 20% --as-default
      fmfbench split runs.zarr --name newest --by-recording run9
      fmfbench split run7.zarr --name night --at run7:3600-5400 --protocol short
      fmfbench predict runs/fmformer --data run7.zarr --split night:test -o night.npz
    """
    from fmfbench.store.reader import StoreReader
    from fmfbench.windows.division import split_store

    known = tuple(StoreReader.open(local_path(store)).recordings)
    made = split_store(
        store,
        name=name,
        test=None if share is None else parse_share(share),
        by_recording=list(_listed(names, known)) if names else None,
        at=[parse_stretch(text) for text in _listed_stretches(stretches)] if stretches else None,
        protocol=protocol,
        as_default=as_default,
    )
    print_result({"store": str(store), **made.to_dict()}, _text(store, made), as_json)


def parse_share(text: str) -> Fraction:
    """0.2 or 20% as a fraction; WindowError for anything else, 20 among it."""
    match = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*(%?)", text.strip())
    if match:
        share = Fraction(match[1]) / (100 if match[2] else 1)
        if 0 < share < 1:
            return share
    raise WindowError(f"--test: expected a share above 0 and below 1, as in 0.2 or 20%, got {text!r}")


def parse_stretch(text: str) -> Stretch:
    """NAME:SECONDS-SECONDS; without the second number, to the end."""
    from fmfbench.windows.division import Stretch

    match = _STRETCH.fullmatch(text.strip())
    try:
        if match is None or not match[2]:
            raise ValueError
        start, stop = Fraction(match[2]), Fraction(match[3]) if match[3] else None
    except ValueError:
        raise WindowError(
            f"--at: expected NAME:SECONDS-SECONDS, as in run7:120-180.5, got {text!r}"
        ) from None
    if stop is not None and stop <= start:
        raise WindowError(f"--at: expected seconds that rise, as in run7:120-180.5, got {text!r}")
    return Stretch(recording=match[1], start=start, stop=stop)


def _listed(texts: Iterable[str], known: tuple[str, ...]) -> Iterable[str]:
    """Names between commas; a recording's name that holds commas itself is taken whole."""
    for text in texts:
        yield from [text] if text in known else [name.strip() for name in text.split(",")]


def _listed_stretches(texts: Iterable[str]) -> Iterable[str]:
    """Stretches between commas; a comma belongs to a name where what lies before it is no stretch."""
    for text in texts:
        waiting = ""
        for part in text.split(","):
            waiting += part
            if _STRETCH.fullmatch(waiting.strip()):
                yield waiting
                waiting = ""
            else:
                waiting += ","
        if waiting:
            yield waiting.removesuffix(",")


def _text(store: Path, made: Division) -> str:
    lines = [f"{store}: split {made.name}" + ("" if made.written else ", which was there")]
    for recording, count in made.counts.items():
        bare = f", {count['unlabelled']} unlabelled among train and test" if count["unlabelled"] else ""
        lines.append(
            f"  {recording}: train {count['train']}, test {count['test']}, unused {count['unused']}{bare}"
        )
    default = "the default now" if made.default == made.name else f"the default is {made.default}"
    lines += [
        f"identity  {made.fingerprint}",
        f"{default}; as {made.name}:test, {made.name}:train, ... by its name",
    ]
    return "\n".join(lines)
