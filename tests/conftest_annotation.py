"""A small labelled store to annotate: two recordings, H != W, a red ellipse that moves over a noisy shell."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

import fmfbench

HEIGHT, WIDTH = 24, 32


def ellipses(frames: int, first: int, last: int) -> np.ndarray:
    """True masks: abnormal from frame `first` to before `last`, drifting to the right."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    masks = np.zeros((frames, HEIGHT, WIDTH), np.uint8)
    for frame in range(first, last):
        centre = 10 + 8 * (frame - first) / (last - first)
        masks[frame] = ((y - 12) / 5) ** 2 + ((x - centre) / 7) ** 2 < 1
    return masks


def write_source(folder: Path) -> Path:
    folder.mkdir()
    for k, (name, frames, first, last) in enumerate((("run1", 60, 8, 40), ("run2", 37, 5, 20))):
        rng = np.random.default_rng(k)
        masks = ellipses(frames, first, last)
        video = rng.normal(70, 6, (frames, HEIGHT, WIDTH, 3)) + masks[..., None] * [130, 20, -10]
        savemat(
            folder / f"{name}.mat",
            {
                "video": np.clip(video, 0, 255).astype(np.uint8).transpose(1, 2, 3, 0),
                "current": rng.normal(8000, 100, (3, frames)),
                "label": masks.transpose(1, 2, 0),
                "train_test_index": (np.arange(frames) >= frames // 2).astype(np.uint8)[None],
            },
            do_compression=True,
        )
    return folder


@pytest.fixture(scope="session")
def labelled_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labelled")
    return fmfbench.convert(write_source(folder / "source"), folder / "runs.zarr")


@pytest.fixture
def store(labelled_store: Path, tmp_path: Path) -> Path:
    """A store of the test's own."""
    return Path(shutil.copytree(labelled_store, tmp_path / "runs.zarr"))


def snapshot(folder: Path) -> dict[str, str]:
    """sha256 of every file below and beside the store, by path."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def files(tmp_path: Path):
    """Call it for what lies in the test's folder now."""
    return lambda: snapshot(tmp_path)
