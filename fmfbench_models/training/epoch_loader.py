"""A loader whose samples change from epoch to epoch: another share of them each, or as many of both classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import InputError
from fmfbench.torch import WindowLoader
from fmfbench_models.interface import Batch
from fmfbench_models.recipe import Recipe

__all__ = ["EpochLoader", "epoch_ids", "used_ids"]

Ids = NDArray[np.int64]


def epoch_ids(ids: Ids, labels: NDArray[np.integer[Any]], recipe: Recipe, seed: int, epoch: int) -> Ids:
    """The samples of an epoch, ascending: what (seed, epoch) alone decides, in every epoch as many.

    Of the samples, or with `balanced` of each class, every k-th: with `rotate` those that begin one place later in each
    epoch, so that k epochs see all but what is left over of whole shares. Balanced, both classes have as many as the
    rarer one has, without any twice, the others being drawn anew for each epoch.

    Args:
        ids: (n,) training samples, ascending. labels: (n,) theirs, 0 or 1.

    Example:
        >>> recipe = Recipe(every=3, rotate=True)
        >>> [epoch_ids(np.arange(7), np.zeros(7, int), recipe, 0, epoch).tolist() for epoch in range(4)]
        [[0, 3], [1, 4], [2, 5], [0, 3]]
    """
    shares = [_share(group, recipe, epoch) for group in _groups(ids, labels, recipe)]
    size = min(len(share) for share in shares)
    if recipe.balanced:
        shares = [
            np.random.default_rng((seed, epoch, value)).choice(share, size, replace=False)
            for value, share in enumerate(shares)
        ]
    return np.sort(np.concatenate(shares))


def used_ids(ids: Ids, labels: NDArray[np.integer[Any]], recipe: Recipe) -> Ids:
    """All samples that some epoch may take, ascending.

    Raises:
        InputError: balanced, and one class alone.
    """
    groups = _groups(ids, labels, recipe)
    if recipe.rotate:
        return ids
    return np.sort(np.concatenate([group[:: recipe.every] for group in groups]))


def _groups(ids: Ids, labels: NDArray[np.integer[Any]], recipe: Recipe) -> list[Ids]:
    """The classes, where each epoch takes as many of both."""
    if not recipe.balanced:
        return [ids]
    groups = [ids[labels == value] for value in (0, 1)]
    if not all(len(group) for group in groups):
        missing = "normal" if not len(groups[0]) else "abnormal"
        raise InputError(
            f"recipe: balanced: expected training samples of both classes, got no {missing} one among {len(ids)}; "
            "train with balanced=false"
        )
    return groups


def _share(ids: Ids, recipe: Recipe, epoch: int) -> Ids:
    if not recipe.rotate:
        return ids[:: recipe.every]
    return ids[epoch % recipe.every :: recipe.every][: max(1, len(ids) // recipe.every)]


class EpochLoader:
    """The part of `WindowLoader` that training uses, for samples that change with the epoch.

    Args:
        make: a loader of some samples; of as many whatever the epoch.
        ids_of: the samples of an epoch.
    """

    def __init__(self, make: Callable[[Ids], WindowLoader], ids_of: Callable[[int], Ids]) -> None:
        self._make, self._ids_of = make, ids_of
        self._epoch = 0
        ids = ids_of(0)
        self.samples = len(ids)  # of an epoch
        self._loader = make(ids)

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self._loader)

    def set_epoch(self, epoch: int) -> None:
        self._change_to(epoch)
        self._loader.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        return self._loader.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._change_to(int(state["epoch"]))
        self._loader.load_state_dict(state)

    def _change_to(self, epoch: int) -> None:
        if epoch != self._epoch:
            self._epoch, self._loader = epoch, self._make(self._ids_of(epoch))
