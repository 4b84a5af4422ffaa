"""The demo's baseline: its regression against scikit-learn's, and a planted spot that it must find."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest_tree import TreeRecording, write_tree
from sklearn.linear_model import LogisticRegression as Reference

import fmfbench
from fmfbench.errors import WindowError
from fmfbench.scoring.baseline import LogisticRegression, _pixel_features, fit_baseline


def test_the_regression_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(2.0, [1.0, 30.0, 0.01], (400, 3))
    y = (x[:, 0] + x[:, 1] / 30 + rng.normal(size=400) > 4).astype(np.int64)
    standard = (x - x.mean(axis=0)) / x.std(axis=0)
    reference = Reference(C=1.0, tol=1e-10, max_iter=1000).fit(standard, y)
    ours = LogisticRegression.fit(x, y, ridge=1.0).predict(x)
    np.testing.assert_allclose(ours, reference.predict_proba(standard)[:, 1], atol=1e-5)


def planted(seed: int) -> TreeRecording:
    """A red spot in half of the frames."""
    rng = np.random.default_rng(seed)
    n, h, w = 200, 20, 28
    video = rng.integers(80, 110, (n, h, w, 3), dtype=np.uint8)
    label = np.zeros((n, h, w), np.uint8)
    label[50:100, 6:14, 9:19] = label[150:, 2:10, 15:25] = 1
    video[..., 0] += 70 * label
    seconds = np.repeat(np.arange(8), 25)
    current = rng.normal(8000, 300, (16, 3))
    return TreeRecording(
        video, label, seconds, np.repeat(np.arange(8), 2), current, [*range(120)], [*range(130, n)]
    )


def test_it_finds_a_planted_spot_and_says_when_it_cannot_learn(tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "t", {"one": planted(1), "two": planted(2)})
    data = fmfbench.open_dataset(fmfbench.convert(tree, tmp_path / "t.zarr"))
    baseline = fit_baseline(data.windows("train", protocol="short"))
    windows = data.windows("test", protocol="short")
    score, mask = baseline.predict(windows)
    path = fmfbench.write_predictions(
        tmp_path / "p.npz", sample_id=windows.sample_ids, score=score, mask=mask
    )
    metrics = fmfbench.score(path, data).metrics
    assert metrics["accuracy"] > 0.97
    assert metrics["miou"] > 0.8
    transposed = data.windows("test", protocol="short", transposed=True)
    again, upright = baseline.predict(transposed)
    np.testing.assert_allclose(again, score)
    np.testing.assert_array_equal(upright, mask)
    with pytest.raises(WindowError, match="both classes, got 1 of"):
        fit_baseline(data.windows("train", protocol="short", every=240))


def test_it_wants_pixel_labels(tmp_path: Path) -> None:
    recording = planted(3)
    recording.label = recording.label.any(axis=(1, 2)).astype(np.uint8)
    data = fmfbench.open_dataset(
        fmfbench.convert(write_tree(tmp_path / "t", {"r": recording}), tmp_path / "t.zarr")
    )
    with pytest.raises(WindowError, match="expected pixel labels"):
        fit_baseline(data.windows("train", protocol="short"))


def test_pixel_features_are_what_scipy_makes_of_their_definition() -> None:
    from scipy.ndimage import uniform_filter

    frames = np.random.default_rng(4).integers(0, 256, (2, 20, 28, 3), dtype=np.uint8)

    def mean_around(image: np.ndarray, radius: int) -> np.ndarray:
        size = (2 * radius + 1,) * 2
        filtered = [uniform_filter(part, size, mode="constant") for part in (image, np.ones_like(image))]
        return filtered[0] / filtered[1]  # clipped at the border

    for frame, got in zip(frames, _pixel_features(frames), strict=True):
        red, green, blue = (np.log(frame[..., k] + 5.0) for k in range(3))
        bright = np.log(frame.mean(axis=-1) + 5.0)
        contrast = [
            mean_around(channel, 2) - mean_around(channel, radius)
            for channel in (red - green, blue - green, bright)
            for radius in (6, 14)
        ]
        redness = mean_around(red - green, 2)
        contrast.append((redness - redness.mean()) / (redness.std() + 1e-3))
        products = [contrast[0] * contrast[4], contrast[1] * contrast[5], contrast[0] ** 2, contrast[1] ** 2]
        np.testing.assert_allclose(got, np.stack(contrast + products, axis=-1), atol=1e-9)


def test_a_pixel_is_predicted_abnormal_where_its_odds_are_above_one(tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "t", {"one": planted(5)})
    data = fmfbench.open_dataset(fmfbench.convert(tree, tmp_path / "t.zarr"))
    windows = data.windows("train", protocol="short")
    baseline = fit_baseline(windows)
    _, masks = baseline.predict(windows)
    doubtful = 0
    for row in range(40, 110):
        probability = baseline.pixel.predict(_pixel_features(windows[row]["video"][-1][None]))[0]
        doubtful += ((probability > 0.5) & (probability < 0.73)).sum()  # log odds from 0 to 1
        assert np.array_equal(masks[row], probability > 0.5)
    assert doubtful
