"""A small transparent baseline: two logistic regressions, one on pixels, one on windows. Numpy only.

Not one of the benchmark's models: a floor that anyone can read, and the demo's predictor. Pixels of the last frame
are judged by how they differ from their surroundings; a window is judged by how abnormal its last frame looks and by
how restless its currents have been.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fmfbench.errors import WindowError
from fmfbench.windows.reader import Windows

__all__ = ["Baseline", "LogisticRegression", "fit_baseline"]

Floats = NDArray[np.float64]

_BATCH = 256
_PIXELS_PER_FRAME = 48


@dataclass(frozen=True)
class LogisticRegression:
    """P(y = 1) = sigmoid(standardised features . weight + bias)."""

    mean: Floats
    scale: Floats
    weight: Floats
    bias: float

    @classmethod
    def fit(cls, features: Floats, labels: NDArray[np.int64], ridge: float = 1.0) -> LogisticRegression:
        """Newton's method on the ridge-penalised likelihood.

        Args:
            features: (n,d).
            labels: (n,) 0/1, both present.
            ridge: penalty on the squared weights of standardised features.
        """
        mean, scale = features.mean(axis=0), features.std(axis=0)
        scale = np.where(scale > 0, scale, 1.0)
        x = np.c_[(features - mean) / scale, np.ones(len(features))]
        penalty = np.diag(np.r_[np.full(features.shape[1], ridge), 1e-9])
        theta = np.zeros(x.shape[1])
        for _ in range(50):
            p = _sigmoid(x @ theta)
            gradient = x.T @ (p - labels) + penalty @ theta
            step = np.linalg.solve((x * (p * (1 - p) + 1e-9)[:, None]).T @ x + penalty, gradient)
            theta -= step
            if np.abs(step).max() < 1e-8:
                break
        return cls(mean, scale, theta[:-1], float(theta[-1]))

    def log_odds(self, features: Floats) -> Floats:
        """(...,) log odds of features (...,d)."""
        weight = self.weight / self.scale
        return features @ weight + (self.bias - float(self.mean @ weight))

    def predict(self, features: Floats) -> Floats:
        """(...,) probabilities of features (...,d)."""
        return _sigmoid(self.log_odds(features))


@dataclass(frozen=True)
class Baseline:
    """The fitted pair."""

    pixel: LogisticRegression
    window: LogisticRegression

    def predict(self, windows: Windows, progress: bool = False) -> tuple[Floats, NDArray[np.uint8]]:
        """Scores (n,) in [0,1] and masks (n,H,W) 0/1 of upright windows, in their order."""
        scores, masks = [], []
        for batch in _batches(windows, windows.protocol.transposed, progress, "predict"):
            pixels = self.pixel.log_odds(_pixel_features(batch["frame"]))
            scores.append(self.window.predict(_window_features(pixels, batch["current"])))
            masks.append((pixels > 0).astype(np.uint8))
        return np.concatenate(scores), np.concatenate(masks)


def fit_baseline(windows: Windows, seed: int = 0, progress: bool = False) -> Baseline:
    """Fit both regressions: of pixels on the windows that have masks, of windows on those with a class label.

    Raises:
        WindowError: no windows, no pixel labels, or only one class among them.
    """
    rng = np.random.default_rng(seed)
    colours, marks, frames, currents, labels = [], [], [], [], []
    for batch in _batches(windows, windows.protocol.transposed, progress, "fit"):
        valid, labelled = batch["mask_valid"], batch["class_label"] <= 1
        features = _pixel_features(batch["frame"])
        n, h, w, d = features.shape
        where = rng.integers(0, h * w, (n, _PIXELS_PER_FRAME))
        drawn = np.take_along_axis(features.reshape(n, h * w, d), where[..., None], axis=1)
        colours.append(drawn[valid].reshape(-1, d))
        marks.append(np.take_along_axis(batch["mask"].reshape(n, h * w), where, axis=1)[valid].ravel())
        frames.append(batch["frame"][labelled])
        currents.append(batch["current"][labelled])
        labels.append(batch["class_label"][labelled])
    if labels and not any(len(part) for part in marks):
        raise WindowError("baseline: expected pixel labels, got data with class labels only, or none")
    y = np.concatenate(labels) if labels else np.empty(0, np.int64)
    if len(np.unique(y)) < 2:
        raise WindowError(
            f"the baseline expects windows of both classes, got {len(y)} of {np.unique(y).tolist()}"
        )
    pixel = LogisticRegression.fit(np.concatenate(colours), np.concatenate(marks).astype(np.int64))
    features = np.concatenate([
        _window_features(pixel.log_odds(_pixel_features(f)), c) for f, c in zip(frames, currents, strict=True)
    ])  # fmt: skip
    return Baseline(pixel, LogisticRegression.fit(features, y))


def _batches(windows: Windows, transposed: bool, progress: bool, what: str):  # type: ignore[no-untyped-def]
    for start in tqdm(
        range(0, len(windows), _BATCH), desc=what, unit="batch", disable=None if progress else True
    ):
        batch = dict(windows.batch(np.arange(start, min(len(windows), start + _BATCH))))
        frame = batch["video"][:, -1]
        batch["frame"] = frame.swapaxes(1, 2) if transposed else frame
        if transposed:
            batch["mask"] = batch["mask"].swapaxes(1, 2)
        yield batch


def _pixel_features(frames: NDArray[np.uint8]) -> Floats:
    """(n,H,W,11): how a pixel's surround differs in red, blue and brightness from wider surrounds and the frame.

    Differences of logarithms: lighting and exposure scale a whole frame, and fall out.
    """
    red, green, blue = (np.log(frames[..., k] + 5.0) for k in range(3))
    brightness = np.log(frames.mean(axis=-1) + 5.0)
    contrasts = []
    for channel in (red - green, blue - green, brightness):
        near = _box_mean(channel, 2)
        contrasts += [near - _box_mean(channel, 6), near - _box_mean(channel, 14)]
    redness = _box_mean(red - green, 2)
    spread = redness.std(axis=(1, 2), keepdims=True) + 1e-3
    contrasts.append((redness - redness.mean(axis=(1, 2), keepdims=True)) / spread)
    near_red, wide_red, _, _, near_bright, wide_bright, _ = contrasts
    products = [near_red * near_bright, wide_red * wide_bright, near_red**2, wide_red**2]
    return np.stack(contrasts + products, axis=-1)


def _window_features(pixels: Floats, current: NDArray[np.float32]) -> Floats:
    """(n,6): the frame's highest, high, upper and median log odds; the currents' restlessness of late.

    Args:
        pixels: (n,H,W) log odds.
        current: (n,Tc,3) A, of which the last fifth is looked at: 44 s of the paper's window.
    """
    ranked = np.sort(_box_mean(pixels, 2).reshape(len(pixels), -1), axis=1)
    looks = [ranked[:, round(q * (ranked.shape[1] - 1))] for q in (1.0, 0.98, 0.9, 0.5)]
    late = current[:, -max(2, current.shape[1] // 5) :].astype(np.float64) / 1000
    steps = np.abs(np.diff(late, axis=1)).sum(axis=2).mean(axis=1)
    spread = late.std(axis=1).sum(axis=1)
    return np.stack([*looks, np.log(steps + 1e-3), np.log(spread + 1e-3)], axis=1)


def _box_mean(image: Floats, radius: int) -> Floats:
    """Mean over the (2 radius + 1)^2 square around each pixel of (n,H,W), clipped at the border."""
    for axis in (1, 2):
        size = image.shape[axis]
        total = np.cumsum(np.insert(image, 0, 0.0, axis=axis), axis=axis)
        low = np.maximum(np.arange(size) - radius, 0)
        high = np.minimum(np.arange(size) + radius + 1, size)
        shape = [1, 1, 1]
        shape[axis] = size
        image = (total.take(high, axis=axis) - total.take(low, axis=axis)) / (high - low).reshape(shape)
    return image


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))
