"""Training windows mirrored, moved and lit otherwise: each by (seed, epoch, sample id), frames and mask together."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from fmfbench_models.parts.augmentation import (
    augment,
    flip_windows,
    jitter_current,
    jitter_windows,
    shift_windows,
    shuffle_phases,
)
from fmfbench_models.recipe import Recipe


@pytest.mark.parametrize("transposed", [False, True])
def test_flip_mirrors_frames_and_mask_together(transposed):
    def batch():
        generator = torch.Generator().manual_seed(0)
        video = torch.randint(0, 256, (40, 3, 2, 6, 8), dtype=torch.uint8, generator=generator)
        mask = torch.randint(0, 2, (40, 6, 8), dtype=torch.uint8, generator=generator)
        return {"video": video, "mask": mask, "sample_id": torch.arange(100, 140)}

    whole, flipped = batch(), flip_windows(batch(), 0.5, 0, 3, transposed=transposed)
    axis = -2 if transposed else -1
    changed = 0
    for i in range(40):
        if torch.equal(flipped["video"][i], whole["video"][i]):
            assert torch.equal(flipped["mask"][i], whole["mask"][i])
        else:
            changed += 1
            assert torch.equal(flipped["video"][i], whole["video"][i].flip(axis))
            assert torch.equal(flipped["mask"][i], whole["mask"][i].flip(axis))
    assert 8 <= changed <= 32
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))[:7]
    part = {name: value[order] for name, value in batch().items()}
    part = flip_windows(part, 0.5, 0, 3, transposed=transposed)
    assert torch.equal(part["video"], flipped["video"][order])
    assert torch.equal(flip_windows(batch(), 0.0, 0, 3, transposed=False)["video"], whole["video"])
    again = flip_windows(batch(), 0.5, 0, 4, transposed=transposed)
    assert not torch.equal(again["video"], flipped["video"])


def test_jitter_is_one_light_for_all_frames_of_a_sample():
    video = torch.full((30, 3, 2, 4, 6), 100, dtype=torch.uint8)
    video[:, :, 1] = 140
    batch = {"video": video, "sample_id": torch.arange(30)}
    changed = jitter_windows(batch, 0.4, 0, 0)["video"]
    assert changed.dtype == torch.uint8
    assert torch.equal(video[:, :, 0], torch.full_like(video[:, :, 0], 100))
    for sample in changed:
        assert len(sample[:, 0].unique()) == len(sample[:, 1].unique()) == 1
        gain = (sample[0, 1, 0, 0].item() - sample[0, 0, 0, 0].item()) / 40
        offset = sample[0, 0, 0, 0].item() - 100 * gain
        assert 0.57 <= gain <= 1.43
        assert abs(offset) <= 64 * 0.4 + 3
    assert len(changed[:, 0, 0, 0, 0].unique()) > 15
    part = {"video": video[[7, 3]], "sample_id": torch.tensor([7, 3])}
    assert torch.equal(jitter_windows(part, 0.4, 0, 0)["video"], changed[[7, 3]])
    assert jitter_windows(batch, 0.0, 0, 0) is batch
    white = {"video": torch.full_like(video, 255), "sample_id": torch.arange(30)}
    assert jitter_windows(white, 0.9, 0, 0)["video"].max() == 255


def shiftable():
    generator = torch.Generator().manual_seed(0)
    video = torch.randint(0, 256, (60, 3, 2, 7, 9), dtype=torch.uint8, generator=generator)
    mask = torch.randint(0, 2, (60, 7, 9), dtype=torch.uint8, generator=generator)
    return {"video": video, "mask": mask, "class_label": torch.ones(60), "sample_id": torch.arange(500, 560)}


def test_shift_moves_frames_and_mask_together():
    """Against numpy: padded by its edge and cut out elsewhere."""
    batch, moved = shiftable(), shift_windows(shiftable(), 2, 0, 3)
    found = set()
    for i in range(60):
        fits = []
        for dy in range(-2, 3):
            for dx in range(-2, 3):
                pad = np.pad(batch["video"][i].numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)), mode="edge")
                if np.array_equal(pad[:, :, 2 - dy : 9 - dy, 2 - dx : 11 - dx], moved["video"][i].numpy()):
                    fits.append((dy, dx))
        (where,) = fits
        found.add(where)
        pad = np.pad(batch["mask"][i].numpy(), 2, mode="edge")
        assert np.array_equal(
            pad[2 - where[0] : 9 - where[0], 2 - where[1] : 11 - where[1]], moved["mask"][i]
        )
    assert {dy for dy, _ in found} == {dx for _, dx in found} == {-2, -1, 0, 1, 2}
    assert torch.equal(moved["class_label"], batch["class_label"])


def test_shift_depends_on_seed_epoch_and_sample_alone():
    moved = shift_windows(shiftable(), 2, 0, 3)
    part = {name: value[[7, 3]] for name, value in shiftable().items()}
    assert torch.equal(shift_windows(part, 2, 0, 3)["video"], moved["video"][[7, 3]])
    for seed, epoch in ((1, 3), (0, 4)):
        assert not torch.equal(shift_windows(shiftable(), 2, seed, epoch)["video"], moved["video"])
    batch = shiftable()
    assert shift_windows(batch, 0, 0, 3) is batch
    assert torch.equal(batch["video"], shiftable()["video"])


def currents():
    generator = torch.Generator().manual_seed(0)
    current = (
        9000
        + 500 * torch.randn(60, 11, 3, generator=generator)
        + 400 * torch.randn(60, 1, 3, generator=generator)
    )
    return {"current": current, "sample_id": torch.arange(500, 560)}


def test_jittered_current_keeps_its_shape_and_takes_another_level():
    """Against a straight line fitted to each phase: one gain for a window, an offset for each phase."""
    before, after = (
        currents()["current"].double().numpy(),
        jitter_current(currents(), 0.3, 0, 3)["current"].numpy(),
    )
    gains, offsets = [], []
    for x, y in zip(before, after, strict=True):
        fits = [np.polyfit(x[:, phase], y[:, phase], 1) for phase in range(3)]
        assert all(np.allclose(np.polyval(fit, x[:, p]), y[:, p], atol=0.01) for p, fit in enumerate(fits))
        assert np.ptp([fit[0] for fit in fits]) < 1e-4
        gains.append(fits[0][0])
        offsets.append(y.mean(0) - x.mean(0))
    assert 0.7 <= min(gains) < 0.8
    assert 1.2 < max(gains) <= 1.3
    together, own = np.mean(offsets, axis=1), np.ptp(offsets, axis=1)
    assert min(np.abs(together).max(), own.max()) > 300
    assert np.abs(offsets).max() <= 900.01


def test_shuffled_phases_are_whole_and_come_in_all_six_orders():
    before, after = currents()["current"], shuffle_phases(currents(), 0, 3)["current"]
    found = set()
    for x, y in zip(before, after, strict=True):
        (order,) = [o for o in itertools.permutations(range(3)) if torch.equal(x[:, list(o)], y)]
        found.add(order)
    assert len(found) == 6


@pytest.mark.parametrize("change", [lambda *a: jitter_current(a[0], 0.3, *a[1:]), shuffle_phases])
def test_changes_of_the_current_depend_on_seed_epoch_and_sample_alone(change):
    whole = change(currents(), 0, 3)["current"]
    part = {name: value[[7, 3]] for name, value in currents().items()}
    assert torch.allclose(change(part, 0, 3)["current"], whole[[7, 3]])
    for seed, epoch in ((1, 3), (0, 4)):
        assert not torch.allclose(change(currents(), seed, epoch)["current"], whole)
    batch = currents()
    change(batch, 0, 3)
    assert torch.equal(batch["current"], currents()["current"])
    assert change(shiftable(), 0, 3).keys() == shiftable().keys()


def test_a_recipe_asks_for_what_it_names_and_no_more():
    plain = augment(shiftable(), Recipe(flip=0.0), 0, 0, transposed=False)
    assert torch.equal(plain["video"], shiftable()["video"])
    everything = augment(shiftable(), Recipe(flip=0.5, shift=2, jitter=0.2), 0, 0, transposed=True)
    by_hand = jitter_windows(
        shift_windows(flip_windows(shiftable(), 0.5, 0, 0, transposed=True), 2, 0, 0), 0.2, 0, 0
    )
    assert torch.equal(everything["video"], by_hand["video"])
    assert torch.equal(everything["mask"], by_hand["mask"])
    assert torch.equal(
        augment(currents(), Recipe(flip=0.0), 0, 0, transposed=False)["current"], currents()["current"]
    )
    moved = augment(
        currents(), Recipe(flip=0.0, current_jitter=0.2, shuffle_phases=True), 0, 0, transposed=False
    )
    by_hand = shuffle_phases(jitter_current(currents(), 0.2, 0, 0), 0, 0)
    assert torch.equal(moved["current"], by_hand["current"])
