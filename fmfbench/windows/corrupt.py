"""The robustness protocol: what goes wrong at a furnace, done to windows as they are read.

Every draw is seeded by (seed, sample id): the same sample meets the same trouble in any order, batch or process.
Labels and masks stay as they are. Presets and their constants stand in data_cards/protocol.md, "Robustness".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fmfbench.clock import seconds_to_ns
from fmfbench.errors import WindowError
from fmfbench.windows.plan import fill_source

if TYPE_CHECKING:
    from fmfbench.store.reader import StoreReader

__all__ = ["CORRUPTIONS", "Corruption", "corrupt_batch", "corruption"]

MIST_COLOUR = (226.0, 228.0, 230.0)
MIST_OPACITY = (0.45, 0.8)
GLARE_COLOUR = (255.0, 190.0, 90.0)
GLARE_RADIUS = (0.15, 0.35)  # of the shorter side
DROPPED_SHARE = 0.4
NOISE_SHARE = 0.1  # of a phase's mean in the window
TIME_OFFSETS = {"time-offset-2": -2, "time-offset-1": -1, "time-offset+1": 1, "time-offset+2": 2}

Window = dict[str, NDArray[Any]]
Store = TypeVar("Store", bound="StoreReader")  # a Dataset stays one


def _video_missing(window: Window, rng: np.random.Generator) -> None:
    window["video"][...] = 0
    window["video_valid"][...] = False


def _current_missing(window: Window, rng: np.random.Generator) -> None:
    window["current"][...] = 0
    window["current_valid"][...] = False


def _phase_dead(window: Window, rng: np.random.Generator) -> None:
    """One phase reads 0 A throughout, and nothing says that it is dead."""
    window["current"][:, rng.integers(3)] = 0


def _mist(window: Window, rng: np.random.Generator) -> None:
    """A pale veil of uneven opacity that drifts from one pattern to another in the course of the window."""
    video = window["video"]
    frames, height, width, _ = video.shape
    first, last = (_smooth(rng.uniform(*MIST_OPACITY, (4, 4)), height, width) for _ in "ab")
    share = np.linspace(0, 1, frames)[:, None, None]
    opacity = (first * (1 - share) + last * share)[..., None]
    video[...] = np.rint(video * (1 - opacity) + np.asarray(MIST_COLOUR) * opacity)


def _glare(window: Window, rng: np.random.Generator) -> None:
    """A warm bright spot that stays in place and flickers from frame to frame."""
    video = window["video"]
    frames, height, width, _ = video.shape
    y, x = rng.uniform(0, height), rng.uniform(0, width)
    radius = rng.uniform(*GLARE_RADIUS) * min(height, width)
    rows, columns = np.arange(height)[:, None], np.arange(width)
    spot = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * radius**2))
    strength = rng.uniform(0.5, 1.0, (frames, 1, 1, 1))
    video[...] = np.rint(np.minimum(video + strength * spot[..., None] * np.asarray(GLARE_COLOUR), 255))


def _frame_drop(window: Window, rng: np.random.Generator) -> None:
    """Frames fall out; a lost position holds the nearest that is left, the earlier of two, as any invalid one."""
    valid = window["video_valid"] & (rng.random(len(window["video_valid"])) >= DROPPED_SHARE)
    source = fill_source(valid[None])[0]
    window["video"][...] = window["video"][np.maximum(source, 0)]
    window["video"][source < 0] = 0
    window["video_valid"][...] = valid


def _current_noise(window: Window, rng: np.random.Generator) -> None:
    current = window["current"]
    scale = NOISE_SHARE * np.abs(current).mean(axis=0, keepdims=True)
    current += (rng.normal(size=current.shape) * scale).astype(current.dtype)


_CHANGED = ("video", "video_valid", "current", "current_valid")
_PER_WINDOW: dict[str, Callable[[Window, np.random.Generator], None]] = {
    "video-missing": _video_missing,
    "current-missing": _current_missing,
    "phase-dead": _phase_dead,
    "mist": _mist,
    "glare": _glare,
    "frame-drop": _frame_drop,
    "current-noise": _current_noise,
}
CORRUPTIONS = (*_PER_WINDOW, *TIME_OFFSETS)


@dataclass(frozen=True)
class Corruption:
    """A preset as a transform of `fmfbench.torch.WindowDataset`: changes one sample's CPU tensors in place."""

    preset: str
    seed: int = 0

    def __call__(self, sample: dict[str, Any], generator: Any = None) -> dict[str, Any]:
        window = {name: sample[name].numpy() for name in _CHANGED if name in sample}
        if "video" in window:
            window["video"] = window["video"].transpose(1, 2, 3, 0)  # (3,T,H,W) as (T,H,W,3), the same memory
        _corrupt(window, self.preset, self.seed, int(sample["sample_id"]))
        return sample


def corrupt_batch(batch: Window, preset: str, seed: int = 0) -> Window:
    """Change a batch of windows from the numpy side in place, and return it.

    Args:
        batch: what `Windows.batch` gave: video (B,T,H,W,3), current (B,Tc,3), their validity, sample_id (B,).
        preset: one of `CORRUPTIONS` that acts on windows; time offsets act on the data set, see `corruption`.
        seed: of the draws.

    Raises:
        WindowError: no such preset.
    """
    for row, sample_id in enumerate(batch["sample_id"].tolist()):
        window = {name: batch[name][row] for name in _CHANGED if name in batch}
        _corrupt(window, preset, seed, sample_id)
    return batch


def corruption(data: Store, preset: str, seed: int = 0) -> tuple[Store, Corruption | None]:
    """What to read windows from, and the transform to put on them, for a preset.

    A time offset of +2 s stamps every current 2 s later than it was taken, so that the model sees stale
    currents; -2 s shows it currents of 2 s ahead. It needs no transform.

    Raises:
        WindowError: no such preset.
    """
    if preset in TIME_OFFSETS:
        return _offset(data, seconds_to_ns(TIME_OFFSETS[preset])), None
    _check(preset)
    return data, Corruption(preset, seed)


def _corrupt(window: Window, preset: str, seed: int, sample_id: int) -> None:
    _check(preset)
    try:
        _PER_WINDOW[preset](window, np.random.default_rng([seed, sample_id]))
    except KeyError as error:
        raise WindowError(
            f"corruption {preset!r} expects windows with {error.args[0]}, got {', '.join(window)}; "
            "ask for both modalities"
        ) from None


def _check(preset: str) -> None:
    if preset not in _PER_WINDOW:
        raise WindowError(f"corruption: expected one of {', '.join(CORRUPTIONS)}, got {preset!r}")


def _offset(data: Store, offset: int) -> Store:
    """The same store, opened anew, with every current's time moved by `offset` ns."""
    return replace(data, current_shift_ns=data.current_shift_ns + offset)


def _smooth(coarse: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """A small grid stretched to (height, width), linear between its points."""
    rows = np.linspace(0, coarse.shape[0] - 1, height)
    columns = np.linspace(0, coarse.shape[1] - 1, width)
    tall = np.stack([np.interp(rows, np.arange(len(coarse)), column) for column in coarse.T], axis=1)
    return np.stack([np.interp(columns, np.arange(tall.shape[1]), row) for row in tall])
