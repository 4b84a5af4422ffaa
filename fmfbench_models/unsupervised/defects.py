"""Defects in image folders as MVTec AD has them: ST-MAE learns a category's normal images; image and pixel AUROC.

    fmfbench unsupervised defects mvtec/ --out results/mvtec --preset paper-base --epochs 400 \\
        --backbone-weights vgg19.pth

The folder may hold categories or be one. A category that is done is not done again, unless its files have changed.
"""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from fmfbench.scoring.ranks import auroc, rank
from fmfbench_models.recipe import Recipe
from fmfbench_models.unsupervised.image_folders import (
    Category,
    find_categories,
    read_category,
    read_images,
    read_masks,
)
from fmfbench_models.unsupervised.learn import (
    chunks,
    describe_trunk,
    judge_images,
    learn,
    make_st_mae,
    trunk_patches,
)
from fmfbench_models.unsupervised.results import (
    ResultFolder,
    auroc_interval,
    check_seed,
    exit_code,
    run_command,
)

__all__ = ["defects", "defects_table"]


def defects(
    root: Path,
    out: Path,
    *,
    preset: str | None = "paper-base",
    epochs: int = 400,
    batch_size: int = 8,
    lr: float = 1e-4,
    seed: int = 0,
    weights: Path | None = None,
    **config: Any,
) -> dict[str, Any]:
    """Learn and judge each category of `root` into the folder `out`; the table's facts. config: of ST-MAE.

    Pixel AUROC is over all pixels of a category's test images together.

    Raises:
        SourceError: a folder, an image or a mask that is not as it should be.
        InputError: a seed out of range, or `out` holds something else.
    """
    check_seed(seed, "defects")
    recipe = Recipe(epochs=epochs, batch_size=batch_size, lr=lr, lr_steps=(), flip=0.0)
    settings = {
        "preset": preset,
        "config": config,
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "seed": seed,
        "trunk": describe_trunk(seed, weights, preset=preset, **config),
    }
    categories = [read_category(folder) for folder in find_categories(root)]  # what is wrong is said at once
    folder = ResultFolder(out, settings)
    rows = []
    for category in categories:
        part, files = f"category-{category.name}", fingerprint(category)
        facts = folder.read(part)
        if facts is None or facts.get("files") != files:
            facts = {**judged(category, recipe, seed, weights, preset, config), "files": files}
            folder.write(part, facts)
        rows.append(facts)
    table = {"settings": settings, "rows": rows}
    folder.write("table", table)
    folder.write_text("table.md", defects_table(table))
    return table


def fingerprint(category: Category) -> str:
    """sha256 over names and sizes of a category's files: the settings do not say of which images a result is.

    Not over what is in them: that would read a whole data set to find that nothing is left to do.
    """
    masks = [test.mask for test in category.test if test.mask is not None]
    digest = hashlib.sha256()
    for path in [*category.train, *(test.path for test in category.test), *masks]:
        name = path.relative_to(category.folder).as_posix()
        digest.update(f"{name}\0{path.stat().st_size}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def judged(
    category: Category,
    recipe: Recipe,
    seed: int,
    weights: Path | None,
    preset: str | None,
    config: dict[str, Any],
) -> dict[str, Any]:
    """One category: learn, judge, and count."""
    started = time.process_time()
    model = make_st_mae(seed, trunk_seed=seed, weights=weights, preset=preset, **config)
    size = model.config.size
    mask = read_masks(category.test, size)  # before the long part: a mask that does not fit is said at once
    loss = learn(
        model, trunk_patches(model, read_images(category.train, size)), recipe, seed, what=category.name
    )
    scores, maps = [], []
    for part in chunks(category.test):
        patches = trunk_patches(model, read_images([test.path for test in part], size))
        score, found = judge_images(model, patches)
        scores.append(score)
        maps.append(found)
    label = category.labels
    image, resamples = auroc_interval(label, np.concatenate(scores), label, seed)
    pixel = auroc(rank(mask.ravel(), np.concatenate(maps).ravel()))
    return {
        "category": category.name,
        "learned": len(category.train),
        "judged": len(label),
        "abnormal": int(label.sum()),
        "image_auroc": none_if_nan(image),
        "interval": np.quantile(resamples, [0.025, 0.975]).tolist() if np.isfinite(image) else None,
        "pixel_auroc": none_if_nan(pixel),
        "loss": loss,
        "processor_seconds": time.process_time() - started,
    }


def none_if_nan(value: float) -> float | None:
    return value if np.isfinite(value) else None


def defects_table(facts: dict[str, Any]) -> str:
    """The facts as Markdown; a dash where a category has test images of one class only."""
    lines = [
        "| category | learned | judged, abnormal | image AUROC | 95 % interval | pixel AUROC |",
        "|---|---|---|---|---|---|",
    ]
    for row in facts["rows"]:
        spread = "-" if row["interval"] is None else "{:.3f} to {:.3f}".format(*row["interval"])
        image, pixel = (
            "-" if row[key] is None else f"{row[key]:.3f}" for key in ("image_auroc", "pixel_auroc")
        )
        lines.append(
            f"| {row['category']} | {row['learned']} | {row['judged']}, {row['abnormal']} | {image} | {spread} "
            f"| {pixel} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """The earlier spelling of `fmfbench unsupervised defects`: python -m and this module's name."""
    run_command("defects")


if __name__ == "__main__":
    sys.exit(exit_code(main))
