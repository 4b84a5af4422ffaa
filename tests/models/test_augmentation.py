"""Training windows mirrored, moved and lit otherwise: each by (seed, epoch, sample id), frames and mask together."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fmfbench_models.augmentation import augment, flip_windows, jitter_windows, shift_windows
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


def test_a_recipe_asks_for_what_it_names_and_no_more():
    plain = augment(shiftable(), Recipe(flip=0.0), 0, 0, transposed=False)
    assert torch.equal(plain["video"], shiftable()["video"])
    everything = augment(shiftable(), Recipe(flip=0.5, shift=2, jitter=0.2), 0, 0, transposed=True)
    by_hand = jitter_windows(
        shift_windows(flip_windows(shiftable(), 0.5, 0, 0, transposed=True), 2, 0, 0), 0.2, 0, 0
    )
    assert torch.equal(everything["video"], by_hand["video"])
    assert torch.equal(everything["mask"], by_hand["mask"])
