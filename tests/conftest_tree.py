"""Recordings that are small and awkward: H != W, several at once, guard frames, short histories, gaps."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hdf5storage
import numpy as np


@dataclass
class TreeRecording:
    """One recording of a V2 tree that a test writes; seconds are whole, rows a second may vary."""

    video: np.ndarray  # (T,H,W,3)
    label: np.ndarray | None  # (T,H,W), (T,) or None
    frame_seconds: np.ndarray
    current_seconds: np.ndarray
    current: np.ndarray
    train: list[int] = field(default_factory=list)
    test: list[int] = field(default_factory=list)


def stamp(second: int) -> str:
    return str(np.datetime64("2023-05-10T21:00:00", "s") + np.timedelta64(int(second), "s")).replace("T", " ")


def write_tree(root: Path, recordings: dict[str, TreeRecording]) -> Path:
    """A V2 tree whose .mat files hdf5storage writes."""
    for folder in ("videos", "currents", "timestamps"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    lists: dict[str, dict[str, list[int]]] = {"train": {}, "test": {}}
    for name, r in recordings.items():
        content = {"data": np.ascontiguousarray(r.video.transpose(1, 2, 3, 0))}
        if r.label is not None:
            content["label"] = r.label.transpose(1, 2, 0) if r.label.ndim == 3 else r.label[None]
        hdf5storage.writes(
            content,
            filename=str(root / "videos" / f"{name}.mat"),
            options=hdf5storage.Options(matlab_compatible=True, store_python_metadata=False),
        )
        with open(root / "timestamps" / f"{name}.csv", "w", newline="") as handle:
            csv.writer(handle).writerows([["time"], *([stamp(s)] for s in r.frame_seconds)])
        with open(root / "currents" / f"{name}.csv", "w", newline="") as handle:
            rows = [
                [stamp(s), *(f"{x:.2f}" for x in row)]
                for s, row in zip(r.current_seconds, r.current, strict=True)
            ]
            csv.writer(handle).writerows([["time", "a", "b", "c"], *rows])
        lists["train"][f"{name}.mat"] = r.train
        lists["test"][f"{name}.mat"] = r.test
    for name, content in lists.items():
        (root / f"{name}.json").write_text(json.dumps(content))
    return root


def awkward_recording(seed: int, num_frames: int, height: int = 6, width: int = 9) -> TreeRecording:
    """Gaps in both modalities, NaN currents, odd seconds, split blocks with guards between them."""
    rng = np.random.default_rng(seed)
    frames: list[int] = []
    second = 5
    while len(frames) < num_frames:
        frames += [second] * int(rng.choice([24, 25, 25, 25, 26]))
        second += int(rng.choice([1, 1, 1, 1, 1, 3]))
    frame_seconds = np.array(frames[:num_frames])
    current: list[int] = []
    for second in range(int(frame_seconds[0]) + int(rng.integers(-8, 6)), int(frame_seconds[-1]) + 1):
        if rng.random() > 0.06:
            current += [second] * int(rng.choice([1, 2, 2, 2, 2, 2]))
    values = rng.normal(8000, 500, (len(current), 3))
    values[rng.random(values.shape) < 0.02] = np.nan
    label = np.zeros((num_frames, height, width), np.uint8)
    for _ in range(3):
        a = int(rng.integers(0, num_frames))
        label[a : a + num_frames // 6, 1:4, 2:7] = 1
    cuts = np.sort(rng.choice(num_frames, 4, replace=False))
    return TreeRecording(
        video=rng.integers(0, 256, (num_frames, height, width, 3), dtype=np.uint8),
        label=label,
        frame_seconds=frame_seconds,
        current_seconds=np.array(current),
        current=values,
        train=[*range(cuts[0]), *range(cuts[3], num_frames)],
        test=[*range(cuts[1], cuts[2])],
    )


def jitter(sample: dict, generator) -> dict:
    """A transform that draws; here, because workers that are spawned must be able to import it."""
    import torch

    sample["current"] = sample["current"] + torch.rand(sample["current"].shape, generator=generator)
    return sample


def content(loader: Iterable[Mapping[str, Any]]) -> dict[int, tuple[bytes, ...]]:
    """The bytes of each sample of a pass, by its id; each comes once."""
    out: dict[int, tuple[bytes, ...]] = {}
    for batch in loader:
        for i, sample_id in enumerate(batch["sample_id"].tolist()):
            assert sample_id not in out
            out[sample_id] = tuple(batch[k][i].numpy().tobytes() for k in sorted(batch))
    return out


def chunks(store: Path) -> dict[str, bytes]:
    """Every file of a store but its metadata, by its place in it."""
    return {
        path.relative_to(store).as_posix(): path.read_bytes()
        for path in sorted(store.rglob("*"))
        if path.is_file() and path.name != "zarr.json"
    }
