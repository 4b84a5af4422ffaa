"""Pixel AUROC and AUPRO: how well the scores of single pixels order them, whatever the threshold.

Both are areas under one staircase of cells, from the highest score down: how many normal pixels a score has, how many
abnormal ones, and how much of the abnormal regions. Counts are exact integers, so that neither the order of the
samples nor the size of what is read at once changes a digit. 8 and 16 bit scores are counted by value; of 32 bit scores
the upper 16 bits are counted by value first, and only where both classes share them are the pixels themselves
looked at, some at a time. Memory does not grow with the number of samples.

AUPRO: Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 129:1038-1059, 2021, section 5.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.errors import InputError
from fmfbench.exchange.masks import unpack_masks
from fmfbench.exchange.pixel_scores import PixelScores, pixel_keys, top_key
from fmfbench.scoring.bootstrap import Blocks
from fmfbench.scoring.ranks import staircase_area

__all__ = ["AUPRO_LIMIT", "PixelRanking", "check_limit", "rank_pixels", "region_sizes", "replicate_areas"]

AUPRO_LIMIT = 0.3
_FINE_BITS = 14  # of 32 bit scores, those that are counted only where they matter
_MOST_PIXELS = 1 << 25  # normal ones held at a time, 4 bytes each
_ABNORMAL_WEIGHT = 4  # an abnormal one takes as much memory as so many normal ones
_VALUES = 1 << 16  # distinct scores of abnormal pixels made into cells together
_TOGETHER = 1 << 20  # pixels whose shares are added together
_MOST_GROUPS = 4096  # levels of scores that the bootstrap tells apart
_MOST_CELLS = 1 << 21  # blocks x levels of the bootstrap
_LIMB = 32
_REPLICATES = 16  # computed together

IntArray = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class PixelRanking:
    """What the pixels of N samples give.

    auroc: probability that an abnormal pixel scores above a normal one, ties counting half. aupro: mean share of an
    abnormal region that is found, over the false positive rates from 0 to `limit`. Each None where undefined, for
    `reason`. regions: how many there are. blocks: (3, B, G) counts of normal pixels, abnormal pixels and shares of
    regions, by block of time and group of scores, lowest first; None unless asked for.
    """

    auroc: float | None
    aupro: float | None
    limit: float
    regions: int
    reason: str | None = None
    blocks: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Cells:
    """Pixels by score, (n,) each, from the highest score down.

    `share`, (n, 2): of the regions, each pixel of a region of s pixels counting 1/s; in units of 2^-32, and what is
    left in units of 2^-64.
    """

    normal: IntArray
    abnormal: IntArray
    share: IntArray


def check_limit(limit: float) -> None:
    """InputError where AUPRO has no such limit."""
    if not 0 < limit <= 1:
        raise InputError(f"expected an AUPRO limit above 0 and at most 1, got {limit}")


def rank_pixels(
    scores: PixelScores,
    mask_bits: NDArray[np.uint8],
    *,
    limit: float = AUPRO_LIMIT,
    blocks: Blocks | None = None,
) -> PixelRanking:
    """Rank all pixels of a split against their labels.

    Args:
        scores: of N samples.
        mask_bits: (N, ceil(H*W/8)) packed labels, in the order that `scores.place` counts in.
        limit: the highest false positive rate that AUPRO looks at.
        blocks: of the bootstrap; asks for counts by block.
    """
    check_limit(limit)
    count = _Count(scores, mask_bits)
    coarse, per_block = count.coarse(blocks)
    normal, abnormal = int(coarse.normal.sum()), int(coarse.abnormal.sum())
    if not normal or not abnormal:
        reason = (
            "no pixel is abnormal" if normal else "no pixel is normal" if abnormal else "no pixel is scored"
        )
        return PixelRanking(auroc=None, aupro=None, limit=limit, regions=count.regions, reason=reason)
    area = Area(normal, abnormal, count.regions, limit)
    for cells in count.refined(coarse):
        area.add(cells)
    return PixelRanking(
        auroc=area.auroc, aupro=area.aupro, limit=limit, regions=count.regions, blocks=per_block
    )


class Area:
    """Both areas of cells that come in order, from the highest score down."""

    def __init__(self, normal: int, abnormal: int, regions: int, limit: float) -> None:
        self.normal, self.abnormal, self.regions, self.limit = normal, abnormal, regions, limit
        self._pairs = 0  # twice the pairs in which the abnormal pixel scores higher
        # normal, abnormal, and both parts of the share, above the next cell
        self._above = np.zeros(4, np.int64)
        self._overlap = 0.0

    def add(self, cells: Cells) -> None:
        if not len(cells.normal):
            return
        columns = np.stack([cells.normal, cells.abnormal, *cells.share.T])
        sums = np.concatenate(
            [self._above[:, None], self._above[:, None] + np.cumsum(columns, axis=1)], axis=1
        )
        self._pairs += int((cells.normal * (sums[1, :-1] + sums[1, 1:])).sum())
        rate = sums[0] / self.normal
        share = (sums[2] + sums[3] / 2.0**_LIMB) / 2.0**_LIMB / self.regions
        self._overlap += staircase_area(rate, share, self.limit)
        self._above = sums[:, -1]

    @property
    def auroc(self) -> float:
        return self._pairs / (2 * self.normal * self.abnormal)

    @property
    def aupro(self) -> float:
        return min(self._overlap / self.limit, 1.0)  # sums of thousands of trapezoids round to either side


class _Count:
    """Counts pixels by score, reading the file as often as it takes."""

    def __init__(self, scores: PixelScores, mask_bits: NDArray[np.uint8]) -> None:
        self.scores, self.mask_bits = scores, mask_bits
        self.fine = _FINE_BITS if scores.dtype == np.float32 else 0
        self.levels = (top_key(scores.dtype) >> self.fine) + 1
        self.regions = 0

    def coarse(self, blocks: Blocks | None) -> tuple[Cells, NDArray[np.float64] | None]:
        """All pixels by the upper bits of their scores, and the same by block of time in wider groups."""
        total, share = np.zeros((2, self.levels), np.int64), np.zeros((self.levels, 2), np.int64)
        groups = None if blocks is None else _Groups(blocks, self.levels)
        for places, keys, true, sizes in self._read():
            level = (keys >> self.fine).astype(np.intp)
            found, each = level[true], _shares(sizes)
            total[0] += np.bincount(level, minlength=self.levels)
            total[1] += np.bincount(found, minlength=self.levels)
            np.add.at(share, found, each)
            if groups is not None:
                groups.add(places, level, true, each[:, 0])
        self.regions = round(int(share[:, 0].sum()) / 2.0**_LIMB + int(share[:, 1].sum()) / 4.0**_LIMB)
        cells = Cells((total[0] - total[1])[::-1], total[1][::-1], share[::-1])
        return cells, None if groups is None else groups.counts()

    def refined(self, coarse: Cells) -> Iterator[Cells]:
        """Cells as fine as matters: runs of levels that hold one class, and those of both told apart."""
        if not self.fine:
            yield coarse
            return
        mixed = (coarse.normal > 0) & (coarse.abnormal > 0)
        weight = coarse.normal + _ABNORMAL_WEIGHT * coarse.abnormal
        start = 0
        while start < len(mixed):
            if not mixed[start]:
                stop = start + int(np.argmax(mixed[start:])) if mixed[start:].any() else len(mixed)
                yield Cells(coarse.normal[start:stop], coarse.abnormal[start:stop], coarse.share[start:stop])
            else:
                many = np.cumsum(weight[start:]) > _MOST_PIXELS
                stop = start + max(1, int(np.argmax(many))) if many.any() else len(mixed)
                # cells run from the highest score, levels from the lowest
                lowest, highest = self.levels - stop, self.levels - start
                if stop == start + 1:
                    yield self._one_level(lowest)
                else:
                    counts = (int(each[start:stop].sum()) for each in (coarse.normal, coarse.abnormal))
                    yield from self._some_levels(lowest, highest, *counts)
            start = stop

    def _one_level(self, level: int) -> Cells:
        """The pixels of one level by value."""
        values = 1 << self.fine
        total, share = np.zeros((2, values), np.int64), np.zeros((values, 2), np.int64)
        for _, keys, true, sizes in self._read(level, level + 1):
            value = (keys & (values - 1)).astype(np.intp)
            total[0] += np.bincount(value, minlength=values)
            total[1] += np.bincount(value[true], minlength=values)
            np.add.at(share, value[true], _shares(sizes))
        return Cells((total[0] - total[1])[::-1], total[1][::-1], share[::-1])

    def _some_levels(self, lowest: int, highest: int, normals: int, abnormals: int) -> Iterator[Cells]:
        """The pixels of some levels, sorted.

        Normal ones between two values of abnormal ones may share a cell: neither area can tell.
        """
        normal = np.empty(normals, np.uint32)
        abnormal = np.empty(abnormals, np.uint64)  # the key, and below it the size of the pixel's region
        n = a = 0
        for _, keys, true, sizes in self._read(lowest, highest):
            rest = keys[~true]
            normal[n : n + len(rest)] = rest
            abnormal[a : a + len(sizes)] = keys[true].astype(np.uint64) << _LIMB | sizes.astype(np.uint64)
            n, a = n + len(rest), a + len(sizes)
        normal.sort()
        abnormal.sort()
        values = (abnormal >> _LIMB).astype(np.uint32)
        first = np.flatnonzero(np.append(True, values[1:] != values[:-1]))
        above = len(normal)
        for stop in range(len(first), 0, -_VALUES):
            groups = first[max(0, stop - _VALUES) : stop]
            end = int(first[stop]) if stop < len(first) else len(abnormal)
            # below a value, up to it, below the next one, ...
            edges = np.empty(2 * len(groups) + 1, np.int64)
            edges[:-1:2] = np.searchsorted(normal, values[groups], side="left")
            edges[1::2] = np.searchsorted(normal, values[groups], side="right")
            edges[-1], above = above, int(edges[0])
            counts, shares = np.zeros(2 * len(groups), np.int64), np.zeros((2 * len(groups), 2), np.int64)
            counts[::2] = np.diff(groups, append=end)
            for start in range(int(groups[0]), end, _TOGETHER):
                sizes = abnormal[start : min(start + _TOGETHER, end)] & ((1 << _LIMB) - 1)
                own = np.searchsorted(groups, np.arange(start, start + len(sizes)), side="right") - 1
                np.add.at(shares, 2 * own, _shares(sizes.astype(np.int64)))
            yield Cells(np.diff(edges)[::-1], counts[::-1], shares[::-1])
        yield Cells(np.array([above]), np.zeros(1, np.int64), np.zeros((1, 2), np.int64))

    def _read(
        self, lowest: int = 0, highest: int | None = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[Any], NDArray[np.bool_], IntArray]]:
        """(places (k,), keys (m,), abnormal (m,), region sizes of the abnormal) of some samples after the other.

        Without limits all m = k H W pixels; else those whose level is in [lowest, highest).
        """
        for places, block in self.scores.blocks():
            keys = pixel_keys(block).reshape(-1)
            mask = unpack_masks(self.mask_bits[places], self.scores.shape[1:])
            true = mask.reshape(-1).view(bool)
            if highest is None:
                yield places, keys, true, region_sizes(mask)
                continue
            low, span = keys.dtype.type(lowest << self.fine), keys.dtype.type((highest - lowest) << self.fine)
            inside = keys - low < span  # what is below wraps around
            wanted = (inside & true).reshape(len(mask), -1).any(axis=1)
            sizes = region_sizes(mask[wanted])[inside.reshape(mask.shape)[wanted][mask[wanted].view(bool)]]
            yield places, keys[inside], true[inside], sizes


class _Groups:
    """Pixels by block of time and group of scores: what the bootstrap needs, and no finer."""

    def __init__(self, blocks: Blocks, levels: int) -> None:
        self.block = blocks.of_sample
        self.number = max(len(blocks), 1)
        most = max(2, min(_MOST_GROUPS, _MOST_CELLS // self.number))
        self.fold = max(0, (levels - 1).bit_length() - most.bit_length() + 1)
        self.groups = ((levels - 1) >> self.fold) + 1
        self.totals = np.zeros((3, self.number, self.groups))

    def add(
        self, places: NDArray[np.intp], level: NDArray[np.intp], true: NDArray[np.bool_], share: IntArray
    ) -> None:
        own = self.block[places]
        first, last = int(own.min()), int(own.max()) + 1
        pixels = len(level) // len(places)
        cell = np.repeat((own - first) * self.groups, pixels) + (level >> self.fold)
        length, shape = (last - first) * self.groups, (last - first, self.groups)
        found = cell[true]
        part = self.totals[:, first:last]
        part[0] += np.bincount(cell, minlength=length).reshape(shape)
        part[1] += np.bincount(found, minlength=length).reshape(shape)
        part[2] += np.bincount(found, share, minlength=length).reshape(shape)

    def counts(self) -> NDArray[np.float64]:
        self.totals[0] -= self.totals[1]
        return self.totals


def region_sizes(mask: NDArray[np.uint8]) -> IntArray:
    """Of each abnormal pixel of masks (k, H, W), in order, how many pixels its region has.

    A region is what hangs together in one frame, diagonal neighbours included.
    """
    from scipy import ndimage

    some = mask.any(axis=(1, 2))
    if not some.any():
        return np.empty(0, np.int64)
    mask = mask[some]
    within_a_frame = np.zeros((3, 3, 3), bool)
    within_a_frame[1] = True
    region, _ = ndimage.label(mask, within_a_frame)
    own = region[mask.view(bool)]
    return np.asarray(np.bincount(own)[own], np.int64)


def replicate_areas(ranking: PixelRanking, weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Both areas of each bootstrap resample, (R,), from weights (R, B) of the blocks; NaN where undefined.

    Scores of one group count as ties: what the resamples are wanted for is how far they spread.
    """
    assert ranking.blocks is not None
    cells = ranking.blocks[:, :, ::-1].transpose(1, 0, 2).reshape(ranking.blocks.shape[1], -1)
    auroc, aupro = np.full(len(weights), np.nan), np.full(len(weights), np.nan)
    for start in range(0, len(weights), _REPLICATES):
        drawn = (weights[start : start + _REPLICATES] @ cells).reshape(-1, 3, ranking.blocks.shape[2])
        sums = np.cumsum(np.pad(drawn, ((0, 0), (0, 0), (1, 0))), axis=2)
        rows = start + np.flatnonzero((sums[:, :2, -1] > 0).all(axis=1))
        kept = sums[rows - start]
        rate, found, share = (kept / kept[..., -1:]).transpose(1, 0, 2)
        auroc[rows] = staircase_area(rate, found)
        aupro[rows] = np.minimum(staircase_area(rate, share, ranking.limit) / ranking.limit, 1.0)
    return {"pixel_auroc": auroc, "aupro": aupro}


def _shares(sizes: IntArray) -> IntArray:
    """(n, 2): 1/size in units of 2^-32, and what is left in units of 2^-64."""
    whole, left = np.divmod(np.int64(1) << _LIMB, sizes)
    return np.stack([whole, (left << _LIMB) // sizes], axis=1)
