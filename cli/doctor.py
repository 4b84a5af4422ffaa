"""`fmfbench doctor`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from .options import LOCAL, json_option


@click.command("doctor", short_help="What is at a path, and how to convert it.")
@click.argument("path", type=LOCAL)
@json_option()
def command(path: Path, as_json: bool) -> None:
    """Say what is at PATH, what is wrong with it, and the command that converts it.

    PATH is any file or folder. Exit code 0 where something of it converts, 2 where nothing does.

    \b
    Example:
      fmfbench doctor recordings/
      fmfbench doctor run7.mp4 --json
    """
    from fmfbench.conversion.doctor import diagnose

    diagnosis = diagnose(path)
    click.echo(json.dumps(diagnosis.to_dict(), indent=1) if as_json else diagnosis.to_text())
    if diagnosis.command is None:
        raise SystemExit(2)
