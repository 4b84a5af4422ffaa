"""Samples that are a batch already: a loader of one's own gets them stacked, without taking them apart first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

import torch
from torch.utils.data._utils.collate import default_collate_fn_map

__all__ = ["Sample", "Samples", "Tensors", "collate"]

Tensors = dict[str, torch.Tensor]


class Sample(dict[str, torch.Tensor]):
    """One window's tensors by name."""


class Samples(Sequence[Sample]):
    """The samples of one batch, each a view of the stacked tensors.

    `torch.utils.data.DataLoader` hands a list of samples to its `collate_fn`. This is such a list, and torch's own
    `default_collate` and ours give back the tensors it is made of: stacking them again costs ten times what reading
    them did.
    """

    def __init__(self, batch: Tensors) -> None:
        self.batch = batch
        self._count = len(next(iter(batch.values())))

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        if not -self._count <= index < self._count:
            raise IndexError(f"sample {index} of {self._count}")
        return Sample((name, tensor[index]) for name, tensor in self.batch.items())

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(self._count))


def collate(samples: Sequence[Tensors]) -> Tensors:
    """The stacked tensors of the samples of a `WindowDataset`, for the `collate_fn` of a loader of one's own.

    Returns:
        a dict of tensors whose first axis is the sample, as `torch.utils.data.default_collate` would give.
    """
    if isinstance(samples, Samples):
        return samples.batch
    return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}


def _collate_samples(
    samples: Sequence[Tensors], *, collate_fn_map: dict[Any, Callable[..., Any]] | None = None
) -> Tensors:
    return collate(samples)


# How torch's documentation of default_collate says to teach it a type.
default_collate_fn_map[Sample] = _collate_samples
