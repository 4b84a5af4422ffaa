"""`fmfbench convert`."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import click

from fmfbench.errors import SourceError
from fmfbench.files.remote import Place

from .options import LOCAL, STORE, cluster_options, json_option, parse_numbers, print_result, threads_option

_RATE = "expects a rate a second, as 25 or 30000/1001"


@click.command("convert", short_help="Recordings into a store.")
@click.argument("source", type=LOCAL)
@click.argument("target", type=STORE, required=False)
@click.option(
    "--layout", type=click.Choice(["v1", "v2", "recording"]), help="Layout, where it cannot be detected."
)
@click.option(
    "--map",
    "names",
    multiple=True,
    metavar="OURS=THEIRS",
    help="A variable's or column's name in the source, as video=Video or a=I_A. Repeatable.",
)
@click.option("--only", multiple=True, metavar="NAME", help="Convert this recording only. Repeatable.")
@click.option(
    "--time-format",
    metavar="FORMAT",
    help="What the times of a table are: a strptime format, or s, ms, us, ns, excel, datenum, dmy, mdy, ymd.",
)
@click.option(
    "--current-hz", metavar="RATE", help="Rows a second of a table without times, or with whole seconds."
)
@click.option(
    "--decimal", type=click.Choice([".", ","]), help="Decimal sign, where numbers can be read both ways."
)
@click.option(
    "--offset", metavar="SECONDS", default="0", help="Added to the times of a raw video, against its table."
)
@click.option(
    "--allow-damaged",
    is_flag=True,
    help="Keep what decodes of a damaged video; the remarks say what is lost.",
)
@click.option(
    "--fps",
    metavar="RATE",
    help="Nominal frames a second; of a raw video, a steady rate in the place of its time stamps.  [default: 25]",
)
@click.option("--crop", metavar="X,Y,W,H", help="Part of a raw recording to keep, in its pixels.")
@click.option("--size", metavar="WxH", help="Size to store a raw recording at.")
@threads_option()
@click.option(
    "--overwrite", is_flag=True, help="Replace a finished store; start over a half-made one of other input."
)
@click.option("--dry-run", is_flag=True, help="Say what would be converted, and write nothing.")
@cluster_options()
@json_option()
def command(source: Path, target: Place | None, **options: Any) -> None:
    """Convert the recordings in SOURCE into the store TARGET.

    SOURCE is a .mat file, a folder of V1 .mat files, a V2 tree or its parent, or a raw recording
    (a video with a table of its name beside it, run7.mp4 and run7.csv) or a folder of them. Killed at any point,
    the same command resumes where it was. What does not convert, `fmfbench doctor SOURCE` explains.

    \b
    Example:
      fmfbench convert pixel-level/ fmf.zarr
      fmfbench convert run7.mat run7.zarr --map video=Video --dry-run
      fmfbench convert run7.mp4 run7.zarr --crop 800,300,900,900 --size 64x64
    """
    from fmfbench.conversion.convert import convert, make_options
    from fmfbench.conversion.summary import describe, describe_source, format_description
    from fmfbench.data import open_dataset
    from fmfbench.sources.layout import open_source

    dry_run, overwrite = options["dry_run"], options["overwrite"]
    given = {
        "layout": options["layout"],
        "names": _parse_names(options["names"]),
        "time_format": options["time_format"],
        "fps": None if options["fps"] is None else _parse_fraction(options["fps"], f"--fps {_RATE}"),
        "crop": parse_numbers(options["crop"], ",", 4, "--crop expects X,Y,W,H in pixels"),
        "size": parse_numbers(options["size"], "x", 2, "--size expects WxH in pixels"),
        "workers": options["workers"],
        "only": options["only"],
        "allow_damaged": options["allow_damaged"],
        "offset": _parse_fraction(options["offset"], "--offset expects seconds, as 1.5 or -0.24"),
        "current_hz": None
        if options["current_hz"] is None
        else _parse_fraction(options["current_hz"], f"--current-hz {_RATE}"),
        "decimal": options["decimal"],
    }
    if dry_run:
        description = describe_source(open_source(source, make_options(**given)))
    else:
        if target is None:
            raise SourceError("expected TARGET, the store to make, after SOURCE, got none; or give --dry-run")
        if options["scheduler"] is None and options["processes"] is None:
            path = convert(source, target, **given, overwrite=overwrite, progress=True)
        else:
            from fmfbench.conversion.cluster import convert_on, joined_cluster

            with joined_cluster(options["scheduler"], options["processes"]) as client:
                path = convert_on(client, source, str(target), **given, overwrite=overwrite)
        description = describe(open_dataset(path))
    print_result(description, format_description(description), options["as_json"])


def _parse_names(pairs: tuple[str, ...]) -> dict[str, str]:
    ours = ("video", "current", "label", "train_test_index", "data", "time", "a", "b", "c")
    names: dict[str, str] = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        if key not in ours or not value:
            raise SourceError(f"--map expects OURS=THEIRS with OURS one of {', '.join(ours)}, got {pair!r}")
        names[key] = value
    return names


def _parse_fraction(text: str, expected: str) -> Fraction:
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise SourceError(f"{expected}, got {text!r}") from None
