"""A V2 data set of 64x64 frames around the large FMF-Sim files of `material`, and its store."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
from material import FRAME_BYTES, folder, mat_file

import fmfbench

FRAMES = (97_657, 36_622)  # 1.2 GB and 0.45 GB of video
_START = np.datetime64("2023-05-10T21:33:26")
_LOST = 600  # every so many seconds one is missing, as in the real recordings


def mat_files() -> list[Path]:
    """One v7.3 file a recording: gzip level 3, chunks of (8,3,64,64)."""
    return [mat_file("v7.3", frames * FRAME_BYTES) for frames in FRAMES]


def store() -> Path:
    """The store of both recordings, made once: four fifths train, guard frames, the rest test."""
    path = folder() / "windows.zarr"
    if not path.exists():
        source = folder() / "windows-source"
        shutil.rmtree(source, ignore_errors=True)
        _write_tree(source)
        fmfbench.convert(source, path, progress=True)
    return path


def _write_tree(source: Path) -> None:
    for name in ("videos", "currents", "timestamps"):
        (source / name).mkdir(parents=True)
    splits: dict[str, dict[str, list[int]]] = {"train": {}, "test": {}}
    rng = np.random.default_rng(0)
    for k, (frames, mat) in enumerate(zip(FRAMES, mat_files(), strict=True)):
        name = f"furnace-{k + 1}"
        os.link(mat, source / "videos" / f"{name}.mat")
        second = np.arange(frames // 25 + 1)
        second += second // _LOST
        stamps = _START + np.timedelta64(k, "D") + second
        frame_stamps = np.repeat(stamps, 25)[:frames]
        _write_csv(source / "timestamps" / f"{name}.csv", ["time"], [_text(frame_stamps)])
        current_stamps = np.repeat(stamps, 2)
        phases = 9000 + 500 * rng.standard_normal((3, len(current_stamps)))
        columns = [_text(current_stamps), *([f"{v:.2f}" for v in phase] for phase in phases)]
        _write_csv(source / "currents" / f"{name}.csv", ["time", "a", "b", "c"], columns)
        cut = frames * 4 // 5
        splits["train"][f"{name}.mat"] = list(range(cut))
        splits["test"][f"{name}.mat"] = list(range(cut + 1000, frames))
    for split, chosen in splits.items():
        (source / f"{split}.json").write_text(json.dumps(chosen))


def _text(stamps: np.ndarray) -> list[str]:
    return [s.replace("T", " ") for s in np.datetime_as_string(stamps, unit="s").tolist()]


def _write_csv(path: Path, header: list[str], columns: list[list[str]]) -> None:
    rows = zip(*columns, strict=True)
    path.write_text("\n".join([",".join(header), *(",".join(row) for row in rows)]) + "\n")
