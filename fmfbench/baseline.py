"""A small transparent baseline: two logistic regressions, one on pixels, one on windows. Numpy only.

Not one of the benchmark's models: a floor that anyone can read, and the demo's predictor. Pixels of the last frame
are judged by their colour and that of their surroundings; a window is judged by how much of its last frame looks
abnormal and by the level, spread and trend of its currents over three spans.
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
_SPANS = (0.1, 0.4, 1.0)  # of the current window, ending at the sample


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
    """Fit both regressions on windows with pixel labels.

    Raises:
        WindowError: no windows, no pixel labels, or only one class among them.
    """
    rng = np.random.default_rng(seed)
    colours, marks, frames, currents, labels = [], [], [], [], []
    for batch in _batches(windows, windows.protocol.transposed, progress, "fit"):
        if "mask" not in batch:
            raise WindowError("the baseline wants pixel labels, this data has only class labels or none")
        features = _pixel_features(batch["frame"])
        n, h, w, d = features.shape
        where = rng.integers(0, h * w, (n, _PIXELS_PER_FRAME))
        colours.append(
            np.take_along_axis(features.reshape(n, h * w, d), where[..., None], axis=1).reshape(-1, d)
        )
        marks.append(np.take_along_axis(batch["mask"].reshape(n, h * w), where, axis=1).ravel())
        frames.append(batch["frame"])
        currents.append(batch["current"])
        labels.append(batch["class_label"])
    y = np.concatenate(labels) if labels else np.empty(0, np.int64)
    if len(np.unique(y)) < 2:
        raise WindowError(
            f"the baseline wants windows of both classes, found {len(y)} of {np.unique(y).tolist()}"
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
        batch = windows.batch(np.arange(start, min(len(windows), start + _BATCH)))
        frame = batch["video"][:, -1]
        batch["frame"] = frame.swapaxes(1, 2) if transposed else frame
        if transposed and "mask" in batch:
            batch["mask"] = batch["mask"].swapaxes(1, 2)
        yield batch


def _pixel_features(frames: NDArray[np.uint8]) -> Floats:
    """(n,H,W,7): brightness and redness near by, farther off, and of the whole row: a spot differs from its own."""
    colour = frames.astype(np.float64) / 255
    bright = colour.mean(axis=-1)
    red = colour[..., 0] / (3 * bright + 0.05)
    near = [_box_mean(x, 2) for x in (bright, red)]
    wide = [_box_mean(x, 10) for x in (bright, red)]
    row = [np.broadcast_to(x.mean(axis=2, keepdims=True), x.shape) for x in (bright, red)]
    contrast = near[1] - wide[1]
    return np.stack([*near, *wide, *row, contrast], axis=-1)


def _window_features(pixels: Floats, current: NDArray[np.float32]) -> Floats:
    """(n,d): how abnormal the frame looks (peak, mean, share), and the currents' level, spread and trend."""
    smooth = _box_mean(pixels, 2).reshape(len(pixels), -1)
    ranked = np.sort(smooth, axis=1)
    parts = [ranked[:, round(q * (ranked.shape[1] - 1))] for q in (1.0, 0.98, 0.9, 0.5)]
    amperes = current.astype(np.float64) / 1000
    for span in _SPANS:
        part = amperes[:, -max(2, round(span * amperes.shape[1])) :]
        ramp = np.linspace(-1, 1, part.shape[1])
        total = part.sum(axis=2)
        imbalance = part.max(axis=2) - part.min(axis=2)
        steps = np.abs(np.diff(total, axis=1))
        parts += [total.mean(axis=1), total.std(axis=1), (total * ramp).mean(axis=1), imbalance.mean(axis=1)]
        parts += [steps.mean(axis=1)]
    return np.stack(parts, axis=1)


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
