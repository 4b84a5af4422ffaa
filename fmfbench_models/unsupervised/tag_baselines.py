"""What needs no network on images and tags: distances on raw pairs, beside the methods of `image_tags`.

A pair is the image's pixels and the tag's numbers, each modality divided by its spread over the training pairs, one
after the other. Thresholds are found on the validation pairs by Youden's index, as the methods' second one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench_models.parts.two_stage import Neighbours, youden_threshold
from fmfbench_models.unsupervised.tag_pairs import Material, Pairs, pair_figures

__all__ = ["BASELINES", "baseline_run"]

COMPONENTS = 20
BASELINES = ("mean pair", "nearest pair", f"PCA of pairs, {COMPONENTS} components")

Array = NDArray[np.float64]


class _Rows:
    """Pairs as vectors, scaled by what the training pairs are."""

    def __init__(self, train: Pairs) -> None:
        self.spread = [float(part.std(axis=0).mean()) for part in (train.image, train.tag)]

    def __call__(self, pairs: Pairs) -> Array:
        image = pairs.image.reshape(len(pairs.kind), -1).astype(np.float64)
        parts = [image, pairs.tag.astype(np.float64)]
        return np.concatenate(
            [part / spread / np.sqrt(part.shape[1]) for part, spread in zip(parts, self.spread, strict=True)],
            1,
        )


def _scorer(name: str, train: Array) -> Any:
    """Rows -> how far each is from the training rows, by a name of `BASELINES`."""
    if name == BASELINES[0]:
        mean = train.mean(0)
        return lambda rows: np.linalg.norm(rows - mean, axis=1)
    if name == BASELINES[1]:
        neighbours = Neighbours(train)
        return lambda rows: neighbours.distance(rows, 1)
    from sklearn.decomposition import PCA

    pca = PCA(COMPONENTS, random_state=0).fit(train)
    return lambda rows: np.linalg.norm(rows - pca.inverse_transform(pca.transform(rows)), axis=1)


def baseline_run(name: str, material: Material) -> dict[str, Any]:
    """A run of `image_tags` in form: the figures of a baseline on the same pairs as the methods of that seed.

    Example:
        >>> from fmfbench_models.unsupervised.tag_pairs import draw_material, load_images
        >>> run = baseline_run("nearest pair", draw_material(load_images("digits"), seed=0, ratios=("1:1",)))
        >>> run["ratios"]["1:1"]["auroc"] > 0.9
        True
    """
    rows = _Rows(material.train)
    score = _scorer(name, rows(material.train))
    held = score(rows(material.validation))
    normal = material.validation.kind == 0
    threshold = -youden_threshold(-held[normal], -held[~normal])
    ratios = {
        ratio: pair_figures(score(rows(pairs)), pairs, threshold) for ratio, pairs in material.test.items()
    }
    return {"samples": material.samples, "ratios": ratios}
