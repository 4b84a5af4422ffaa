"""`fmfbench verify`."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("verify")
@click.argument("store", type=click.Path(path_type=Path))
@click.option(
    "--source", type=click.Path(path_type=Path), help="What it was converted from: compare every value."
)
@click.option("--strict", is_flag=True, help="Remarks fail too.")
@click.option("--workers", type=click.IntRange(min=1), help="Threads.  [default: all cores]")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.pass_context
def command(
    ctx: click.Context, store: Path, source: Path | None, strict: bool, workers: int | None, as_json: bool
) -> None:
    """Check every file and value of STORE and report all that is found.

    Damage (a changed, absent or extra file, values that cannot be, a difference from --source): exit 1.
    Remarks on what was recorded (frozen or repeated frames, gaps, NaN currents): exit 0, or 1 with
    --strict. Exit 2 where STORE does not exist or never was a store.

    \b
    Example:
      fmfbench verify fmf.zarr
      fmfbench verify fmf.zarr --source pixel-level/ --strict --json
    """
    from fmfbench.conversion.verify import verify

    report = verify(store, source, workers=workers, progress=True)
    click.echo(json.dumps(report.to_dict(), indent=1) if as_json else report.to_text())
    if not report.ok or (strict and report.remarks):
        ctx.exit(1)
