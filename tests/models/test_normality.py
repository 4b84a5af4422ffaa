"""Models of normal frames against NumPy, SciPy and scikit-learn.

Also tests fmfbench_models.zoo: constant_image, patch_memory, pca_residual.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA

from fmfbench.errors import InputError
from fmfbench_models import FitData, create_model
from fmfbench_models.parts.normality import evenly
from fmfbench_models.zoo.patch_memory import greedy_coreset

SIZE, NAMES = (16, 24), ["constant_image", "pca_residual", "patch_memory"]
SMALL = {"size": SIZE, "trunk_blocks": 2}


def clips(count, seed, label=0):
    """Frames of a scene that varies in two ways, of 3 frames each; abnormal ones have a bright corner."""
    rng = np.random.default_rng(seed)
    scene, other = np.random.default_rng(5).uniform(60, 140, (2, 3, *SIZE))
    weight = rng.uniform(0, 1, (count, 1, 1, 1))
    frames = weight * scene + (1 - weight) * other + rng.normal(0, 2, (count, 3, *SIZE))
    if label:
        frames[:, :, 2:8, 3:10] += 90
    last = np.clip(frames, 0, 255).astype(np.uint8)[:, :, None]
    older = rng.integers(0, 256, (count, 3, 2, *SIZE), dtype=np.uint8)
    return {
        "video": torch.from_numpy(np.concatenate([older, last], 2)),
        "class_label": torch.full((count,), label),
    }


def last_frames(batch):
    return batch["video"][:, :, -1].double().numpy()


def fitted(name, train=None, **config):
    torch.manual_seed(0)
    model = create_model(name, **({"size": SIZE} if name == "constant_image" else SMALL), **config)
    model.fit(FitData(train=train or [clips(20, 1), clips(12, 2)], validation=[clips(15, 3)]))
    return model.eval()


@torch.no_grad()
def judge(model, batch):
    return model(video=batch["video"])


@pytest.mark.parametrize("scaled", [False, True])
def test_constant_image_is_the_distance_from_the_mean_frame(scaled):
    model, batch = fitted("constant_image", scaled=scaled), clips(4, 9, label=1)
    train = np.concatenate([last_frames(clips(20, 1)), last_frames(clips(12, 2))])
    distance = np.sqrt(((last_frames(batch) - train.mean(0)) ** 2).sum(1))
    if scaled:
        distance /= np.maximum(np.sqrt(train.var(0).sum(0)), 1)
    expected = [gaussian_filter(one, 1.0, mode="nearest") for one in distance]
    np.testing.assert_allclose(judge(model, batch).aux["map"].numpy(), expected, rtol=1e-4)


@pytest.mark.parametrize("components", [0, 1, 5])
def test_pca_residual_is_what_scikit_learn_leaves(components):
    model, batch = fitted("pca_residual", components=components), clips(4, 9, label=1)
    with torch.no_grad():
        train = (
            model.places(torch.cat([clips(20, 1)["video"], clips(12, 2)["video"]])[:, :, -1]).double().numpy()
        )
        judged = model.places(batch["video"][:, :, -1]).double().numpy()
        found = model.residual(batch["video"][:, :, -1]).flatten(1).numpy()
    for place in range(train.shape[1]):

        def left(values, fit=train[:, place]):
            if not components:
                return np.linalg.norm(values - fit.mean(0), axis=1)
            pca = PCA(components, svd_solver="full").fit(fit)
            return np.linalg.norm(values - pca.inverse_transform(pca.transform(values)), axis=1)

        scale = np.sqrt((left(train[:, place]) ** 2).mean())
        np.testing.assert_allclose(found[:, place], left(judged[:, place]) / scale, rtol=2e-3)


def test_patch_memory_is_the_distance_to_the_nearest_place_kept():
    model, batch = fitted("patch_memory", memory=60, neighbourhood=1), clips(4, 9, label=1)
    with torch.no_grad():
        train = model.places(torch.cat([clips(20, 1)["video"], clips(12, 2)["video"]])[:, :, -1])
        judged = model.places(batch["video"][:, :, -1])
        found = model.residual(batch["video"][:, :, -1]).flatten(1)
    assert model.memory.shape == (60, 192)
    assert cdist(model.memory, train.flatten(0, 1)).min(1).max() < 1e-4
    expected = [cdist(one, model.memory).min(1) for one in judged]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_neighbourhood_is_the_mean_of_the_places_around():
    torch.manual_seed(0)
    whole = create_model("patch_memory", **SMALL, neighbourhood=3)
    single = create_model("patch_memory", **SMALL, neighbourhood=1)
    single.load_state_dict(whole.state_dict())
    frames = clips(2, 4)["video"][:, :, -1]
    with torch.no_grad():
        plain, pooled = single.maps(frames).numpy(), whole.maps(frames).numpy()
    _, _, height, width = plain.shape
    for row, column in ((0, 0), (1, 2), (height - 1, width - 1)):
        around = plain[:, :, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        np.testing.assert_allclose(pooled[:, :, row, column], around.mean((2, 3)), rtol=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_greedy_coreset_takes_the_farthest(seed):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(40, 3))
    points = np.concatenate([points, points[:10]])  # copies are never taken twice
    chosen = greedy_coreset(torch.from_numpy(points), 60).tolist()
    assert len(chosen) == len({tuple(points[k]) for k in chosen}) == 40
    distances = cdist(points, points)
    assert chosen[0] == np.argmin(np.linalg.norm(points - points.mean(0), axis=1))
    for k in range(1, len(chosen)):
        nearest = distances[:, chosen[:k]].min(1)
        assert nearest[chosen[k]] == pytest.approx(nearest.max())


@pytest.mark.parametrize("name", NAMES)
def test_nothing_abnormal_is_learned_and_a_spot_is_found(name):
    clean = fitted(name)
    mixed = fitted(name, train=[clips(20, 1), clips(9, 7, label=1), clips(12, 2)])
    batch = clips(6, 9, label=1)
    for one, other in zip(clean.state_dict().values(), mixed.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    output = judge(clean, batch)
    assert output.logits.argmax(1).all()
    inside = output.aux["map"][:, 3:7, 4:9].mean((1, 2))
    outside = output.aux["map"][:, 11:, 14:].mean((1, 2))
    assert (inside > 1.2 * outside).all()
    assert judge(clean, clips(40, 8)).logits.argmax(1).float().mean() < 0.3  # .05 wanted, of 15 samples


@pytest.mark.parametrize("name", NAMES)
def test_thresholds_are_quantiles_of_normal_validation(name):
    model = fitted(name, pixel_quantile=0.9, image_quantile=0.5)
    output = judge(model, clips(15, 3))
    assert output.masks().float().mean() == pytest.approx(0.1, abs=0.01)
    assert output.logits.argmax(1).float().mean() == pytest.approx(0.5, abs=0.05)
    assert model.meta.provenance["thresholds"]["samples"] == "validation"


@pytest.mark.parametrize("name", NAMES)
def test_without_a_normal_sample_there_is_nothing_to_learn(name):
    with pytest.raises(
        InputError, match="expected training samples that are not labelled abnormal, got none"
    ):
        fitted(name, train=[clips(3, 1, label=1)])


@pytest.mark.parametrize(("count", "most"), [(0, 3), (3, 3), (4, 3), (50, 7), (64, 8), (1000, 1)])
def test_evenly_spread(count, most):
    kept = [int(item) for item in evenly((torch.tensor(k) for k in range(count)), most)]
    assert len(kept) <= most
    assert len(kept) >= min(count, most) / 2
    steps = set(np.diff(kept).tolist())
    assert len(steps) <= 1
    assert kept[:1] == ([0] if count else [])
