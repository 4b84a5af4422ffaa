"""`fmfbench verify`."""

from __future__ import annotations

from pathlib import Path

import click

from fmfbench.files.remote import Place

from .options import LOCAL, cluster_options, json_option, print_result, store_argument, threads_option


@click.command("verify", short_help="Check every byte and value of a store.")
@store_argument()
@click.option("--source", type=LOCAL, help="What it was converted from: compare every value.")
@click.option("--strict", is_flag=True, help="Remarks fail too.")
@threads_option()
@cluster_options()
@json_option()
@click.pass_context
def command(
    ctx: click.Context,
    store: Place,
    source: Path | None,
    strict: bool,
    workers: int | None,
    scheduler: str | None,
    processes: int | None,
    as_json: bool,
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

    if scheduler is None and processes is None:
        report = verify(store, source, workers=workers, progress=True)
    else:
        from fmfbench.conversion.cluster import joined_cluster, verify_on

        with joined_cluster(scheduler, processes) as client:
            report = verify_on(client, store, source, progress=True)
    print_result(report.to_dict(), report.to_text(), as_json)
    if not report.ok or (strict and report.remarks):
        ctx.exit(1)
