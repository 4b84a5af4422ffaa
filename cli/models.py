"""`fmfbench models`: what can be trained."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from .options import json_option


@click.command("models", short_help="List the reference models.")
@click.argument("names", nargs=-1)
@click.option("--card", is_flag=True, help="Print the card of our models: data_cards/models.md.")
@json_option()
def command(*, names: tuple[str, ...], card: bool, as_json: bool) -> None:
    """List the models: modality, parameters, whether dense; or all about those NAMED.

    \b
    Example:
      fmfbench models
      fmfbench models fmformer
    """
    from fmfbench_models import list_models, model_info

    if card:
        from fmfbench_models.card import models_card

        click.echo(models_card(), nl=False)
        return
    infos = [model_info(name) for name in names or list_models()]
    if as_json:
        click.echo(json.dumps([asdict(info) for info in infos], indent=2))
        return
    click.echo(f"{'name':<14} {'modality':<9} {'parameters':>11}  {'dense':<6} {'training':<9} title")
    for info in infos:
        dense = "yes" if info.dense else "no"
        title = info.title + (" (re-interpretation)" if info.reinterpretation else "")
        row = f"{info.name:<14} {info.modality:<9} {info.parameters:>11,}  {dense:<6} {info.training:<9} {title}"
        click.echo(row)
        if names:
            click.echo(f"  source   {info.source}")
            for part, origin in info.provenance.items():
                click.echo(f"  {part}: {origin}")
            click.echo(f"  onnx     {f'no: {info.no_onnx}' if info.no_onnx else 'yes'}")
            click.echo(f"  presets  {', '.join(info.presets) or 'none'}")
            for key, value in info.config.items():
                click.echo(f"  --set {key}={json.dumps(value)}")
