"""One-class novelty on handwritten digits: ST-MAE learns one digit and scores all; AUROC per digit.

    fmfbench unsupervised one-class --data digits --out results/digits

Half of the images of the digit are learned, the other half of all digits is judged, by two image scores: the standard
deviation of the anomaly map, which is the paper's, and the map's mean, which is ours. The deviation asks for one odd
place on an image that is as it should be; a digit of another class is odd all over. Beside them stand the trivial
baselines on the same raw pixels: the distance to the mean image, to the nearest image learned, and to what 20 principal
components can say. Settings are fixed before anything is judged;
nothing is chosen by a result. A digit that is done is not done again.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fmfbench.errors import InputError
from fmfbench.scoring.ranks import auroc, rank
from fmfbench_models.recipe import Recipe
from fmfbench_models.unsupervised.digits import halves, load_digits, resized
from fmfbench_models.unsupervised.learn import (
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

__all__ = ["one_class", "one_class_table"]

SIZE = (32, 32)
FOR_32_PIXELS: dict[str, Any] = {  # of the paper, but sigma and the number of splits
    "size": list(SIZE),
    "patch": 1,
    "sigma": 0.5,
    "splits": 8,
}
COMPONENTS = 20  # of the principal component analysis beside it


def one_class(
    data: str,
    out: Path,
    *,
    preset: str | None = "nano",
    epochs: int = 240,
    batch_size: int = 8,
    lr: float = 1e-3,
    seed: int = 0,
    weights: Path | None = None,
    limit: int | None = None,
) -> dict[str, Any]:
    """Learn and judge each digit of `data` ("digits" or "mnist5k") into the folder `out`; the table's facts.

    preset: of ST-MAE, None for its defaults. weights: of the trunk, random otherwise. limit: images of each digit, the
    first ones, None for all.

    Raises:
        InputError: a seed out of range, fewer than 2 images of each digit, or `out` holds something else.
    """
    check_seed(seed, "one_class")
    if limit is not None and limit < 2:
        raise InputError(
            f"one_class: expected a limit of 2 or more images of each digit, one to learn and one to judge, got {limit}"
        )
    recipe = Recipe(epochs=epochs, batch_size=batch_size, lr=lr, lr_steps=(), flip=0.0)
    settings = {
        "data": data,
        "preset": preset,
        "config": FOR_32_PIXELS,
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "seed": seed,
        "limit": limit,
        "image_scores": ["deviation", "mean"],
        "trunk": describe_trunk(seed, weights, preset=preset, **FOR_32_PIXELS),
    }
    images, digits = load_digits(data)
    if limit is not None:
        kept = np.sort(np.concatenate([np.flatnonzero(digits == digit)[:limit] for digit in range(10)]))
        images, digits = images[kept], digits[kept]
    folder = ResultFolder(out, settings)
    train, test = halves(digits, seed)
    large = resized(images, SIZE)
    cache: dict[str, torch.Tensor] = {}
    for digit in range(10):
        name = f"digit-{digit}"
        if folder.read(name) is not None:
            continue
        started = time.process_time()
        model = make_st_mae(
            seed * 10 + digit, trunk_seed=seed, weights=weights, preset=preset, **FOR_32_PIXELS
        )
        if "test" not in cache:  # the trunk is the same for all digits
            cache["test"] = trunk_patches(model, large[test])
        own = train[digits[train] == digit]
        patches = trunk_patches(model, large[own])
        loss = learn(model, patches, recipe, seed * 10 + digit, what=name)
        deviation, maps = judge_images(model, cache["test"])
        label = (digits[test] != digit).astype(np.uint8)
        area, resamples = auroc_interval(label, deviation, digits[test], seed)
        area_by_mean, resamples_by_mean = auroc_interval(
            label, maps.mean((1, 2), dtype=np.float64), digits[test], seed
        )
        trivial = {
            name: auroc(rank(label, distance(images[test], images[own])))
            for name, distance in TRIVIAL_BASELINES.items()
        }
        folder.write(
            name,
            {
                "digit": digit,
                "auroc": area,
                "interval": interval(resamples),
                "auroc_by_mean": area_by_mean,
                "interval_by_mean": interval(resamples_by_mean),
                **trivial,
                "learned": len(own),
                "judged": len(test),
                "normal": int((label == 0).sum()),
                "loss": loss,
                "loss_of_constant": model.constant_loss(patches)[1],
                "resamples": resamples.tolist(),
                "resamples_by_mean": resamples_by_mean.tolist(),
                "processor_seconds": time.process_time() - started,
            },
        )
    rows = [folder.read(f"digit-{digit}") or {} for digit in range(10)]
    facts = summary(settings, rows)
    folder.write("table", facts)
    folder.write_text("table.md", one_class_table(facts))
    return facts


def nearest_distance(images: NDArray[np.uint8], learned: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Euclidean distance of each image (n, h, w) to the nearest of `learned` (m, h, w), in grey values: (n,)."""
    from sklearn.neighbors import NearestNeighbors

    flat, own = (values.reshape(len(values), -1).astype(np.float64) for values in (images, learned))
    distance, _ = NearestNeighbors(n_neighbors=1).fit(own).kneighbors(flat)
    return distance[:, 0]


def constant_distance(images: NDArray[np.uint8], learned: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Euclidean distance of each image (n, h, w) to the mean of `learned` (m, h, w), in grey values: (n,)."""
    flat, own = (values.reshape(len(values), -1).astype(np.float64) for values in (images, learned))
    distance: NDArray[np.float64] = np.linalg.norm(flat - own.mean(0), axis=1)
    return distance


def pca_residual(images: NDArray[np.uint8], learned: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(n,) what is left of each image outside the first 20 principal components, in grey values.

    Euclidean length, of images (n, h, w), outside those of `learned` (m, h, w), or m - 1 if that is less.
    """
    flat, own = (values.reshape(len(values), -1).astype(np.float64) for values in (images, learned))
    mean = own.mean(0)
    axes = np.linalg.svd(own - mean, full_matrices=False).Vh[: min(COMPONENTS, len(own) - 1)]
    centred = flat - mean
    distance: NDArray[np.float64] = np.linalg.norm(centred - centred @ axes.T @ axes, axis=1)
    return distance


TRIVIAL_BASELINES = {"constant": constant_distance, "nearest": nearest_distance, "pca": pca_residual}


def interval(resamples: NDArray[np.float64]) -> list[float]:
    return np.quantile(resamples, [0.025, 0.975]).tolist()


def summary(settings: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The table's facts. The mean is taken resample by resample: all digits' are of the same images."""
    means, means_by_mean = (
        np.mean([row.pop(name) for row in rows], axis=0) for name in ("resamples", "resamples_by_mean")
    )
    return {
        "settings": settings,
        "rows": rows,
        "mean": float(np.mean([row["auroc"] for row in rows])),
        "mean_interval": interval(means),
        "mean_by_mean": float(np.mean([row["auroc_by_mean"] for row in rows])),
        "mean_interval_by_mean": interval(means_by_mean),
        **{f"mean_{name}": float(np.mean([row[name] for row in rows])) for name in TRIVIAL_BASELINES},
        "processor_seconds": sum(row["processor_seconds"] for row in rows),
    }


def one_class_table(facts: dict[str, Any]) -> str:
    """The facts as Markdown."""
    lines = [
        "| normal digit | learned | judged, normal | ST-MAE AUROC, deviation of the map | 95 % interval "
        "| mean of the map | 95 % interval | mean image | nearest image | PCA, 20 components |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['digit']} | {row['learned']} | {row['judged']}, {row['normal']} | {row['auroc']:.3f} "
        f"| {span(row['interval'])} | {row['auroc_by_mean']:.3f} | {span(row['interval_by_mean'])} "
        f"| {row['constant']:.3f} | {row['nearest']:.3f} | {row['pca']:.3f} |"
        for row in facts["rows"]
    ]
    lines.append(
        f"| **mean** | | | **{facts['mean']:.3f}** | {span(facts['mean_interval'])} "
        f"| **{facts['mean_by_mean']:.3f}** | {span(facts['mean_interval_by_mean'])} "
        f"| {facts['mean_constant']:.3f} | {facts['mean_nearest']:.3f} | {facts['mean_pca']:.3f} |"
    )
    return "\n".join(lines) + "\n"


def span(bounds: list[float]) -> str:
    return f"{bounds[0]:.3f} to {bounds[1]:.3f}"


def main() -> None:
    """The earlier spelling of `fmfbench unsupervised one-class`: python -m and this module's name."""
    run_command("one-class")


if __name__ == "__main__":
    sys.exit(exit_code(main))
