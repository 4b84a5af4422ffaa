"""V1 files and V2 trees by scipy, h5py, hdf5storage and Octave, from arrays that are drawn."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import h5py
import hdf5storage
import numpy as np
import pandas as pd
import scipy.io

from .case import NS, Recording

OCTAVE = shutil.which("octave")
FRAME = NS // 25


def masks(rng: np.random.Generator, n: int, height: int, width: int) -> np.ndarray:
    out = np.zeros((n, height, width), np.uint8)
    first, last = sorted(rng.integers(0, n + 1, 2).tolist())
    top, left = int(rng.integers(0, height // 2)), int(rng.integers(0, width // 2))
    out[first:last, top : top + height // 3, left : left + width // 3] = 1
    return out


def drawn(rng: np.random.Generator, *, classes: bool = False, current_rows: int | None = None) -> Recording:
    """One recording of a few dozen frames, H != W."""
    n, height = int(rng.integers(26, 80)), int(rng.integers(12, 30))
    width = height + int(rng.integers(3, 20))
    label = masks(rng, n, height, width)
    return Recording(
        frames=rng.integers(0, 256, (n, height, width, 3), np.uint8),
        frame_time=np.arange(n) * FRAME,
        current=np.round(rng.normal(7000, 300, (n if current_rows is None else current_rows, 3)), 1),
        current_time=np.arange(n) * FRAME,
        masks=None if classes else label,
        classes=label.any(axis=(1, 2)).astype(np.uint8),
        split=(rng.random(n) < 0.3).astype(np.uint8),
    )


def label_values(rng: np.random.Generator, label: np.ndarray) -> np.ndarray:
    """0/1 or 0/255 in some type."""
    kinds = [np.uint8, np.float64, np.bool_, np.int16, np.float32, np.uint16]
    values = label.astype(kinds[rng.integers(len(kinds))])
    return values * 255 if values.dtype == np.uint8 and rng.random() < 0.5 else values


def v1(rng: np.random.Generator, folder: Path, stem: str) -> tuple[Recording, dict[str, str]]:
    """A V1 file by one of the writers; the recording, and the names that its variables have."""
    made = drawn(rng, classes=rng.random() < 0.25)
    assert made.classes is not None
    label = made.classes[None] if made.masks is None else made.masks.transpose(1, 2, 0)
    assert made.split is not None
    index = made.split[None].astype([np.uint8, np.float64, np.bool_][rng.integers(3)])
    content = {
        "video": made.frames.transpose(1, 2, 3, 0), "current": made.current.T, "label": label_values(rng, label),
        "train_test_index": index.T if rng.random() < 0.3 else index,
    }  # fmt: skip
    names: dict[str, str] = {}
    if rng.random() < 0.25:
        names = {"video": "Video", "current": "Current", "label": ["Label", "mask", "gt"][rng.integers(3)],
                 "train_test_index": ["split", "Train_Test_Index"][rng.integers(2)]}  # fmt: skip
    elif rng.random() < 0.3:
        content["data"] = [np.arange(7.0)[None], content["video"].copy()][rng.integers(2)]
    if rng.random() < 0.3:
        content["notes"] = np.array(["furnace 3"], dtype=object) if rng.random() < 0.5 else np.ones((2, 2))
    save(rng, folder / f"{stem}.mat", {names.get(k, k): v for k, v in content.items()})
    return made, names


def save(rng: np.random.Generator, path: Path, content: dict[str, Any], writer: str | None = None) -> None:
    writers = [
        "scipy v7",
        "scipy v6",
        "h5py",
        "h5py",
        "hdf5storage",
        *(["octave -v7", "octave -v6"] if OCTAVE else []),
    ]
    writer = writer or writers[rng.integers(len(writers))]
    if writer.startswith("scipy"):
        scipy.io.savemat(path, content, do_compression=writer.endswith("v7"))
    elif writer == "h5py":
        with h5py.File(path, "w", userblock_size=512) as file:
            for name, value in content.items():
                if value.dtype == object:
                    continue
                reverse = np.ascontiguousarray(np.asarray(value).T)
                stored = reverse.view(np.uint8) if reverse.dtype == bool else reverse
                chunks = tuple(int(rng.integers(1, extent + 1)) for extent in stored.shape)
                filters = (
                    {"compression": "gzip", "shuffle": bool(rng.integers(2))} if rng.random() < 0.6 else {}
                )
                data = file.create_dataset(
                    name, data=stored, chunks=chunks if rng.random() < 0.7 else None, **filters
                )
                kind = {"float64": "double", "float32": "single", "bool": "logical"}.get(
                    str(value.dtype), str(value.dtype)
                )
                data.attrs["MATLAB_class"] = np.bytes_(kind)
        with path.open("r+b") as handle:
            handle.write(b"MATLAB 7.3 MAT-file, by a campaign".ljust(124) + b"\0\2IM")
    elif writer == "hdf5storage":
        hdf5storage.savemat(str(path), {k: v for k, v in content.items() if v.dtype != object}, format="7.3")
    else:
        plain = path.with_suffix(".plain")
        scipy.io.savemat(plain, {k: v for k, v in content.items() if v.dtype != object})
        by_octave(f"x = load('{plain}'); save('{writer.split()[1]}', '{path}', '-struct', 'x');")
        plain.unlink()


def by_octave(script: str) -> None:
    subprocess.run(["octave", "-qf", "--no-gui", "--eval", script], check=True, capture_output=True)


def v2_file(rng: np.random.Generator, path: Path, *, name: str = "data") -> Recording:
    """One V2 `.mat`: no currents, no split."""
    made = drawn(rng, current_rows=0)
    made.current_time = np.empty(0, np.int64)
    made.split = np.full(len(made.frames), 2, np.uint8)
    content: dict[str, Any] = {name: made.frames.transpose(1, 2, 3, 0)}
    if rng.random() < 0.7:
        assert made.masks is not None
        content["label"] = label_values(rng, made.masks.transpose(1, 2, 0))
    else:
        made.masks = made.classes = None
    save(rng, path, content, writer=None if path.parent.name != "videos" else "h5py")
    return made


TREE_FORMS = ["%Y-%m-%d %H:%M:%S", "%Y/%m/%d %H:%M:%S", "%d-%b-%Y %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%H:%M:%S"]


def tree(
    rng: np.random.Generator, root: Path, names: list[str], form: str | None = None
) -> dict[str, Recording]:
    """A V2 tree: whole seconds that 25 frames and two rows share."""
    for folder in ("videos", "currents", "timestamps"):
        (root / folder).mkdir(parents=True)
    lists: dict[str, dict[str, list[int]]] = {"train": {}, "test": {}}
    form = form or TREE_FORMS[rng.integers(len(TREE_FORMS))]
    out = {}
    for name in names:
        made = v2_file(rng, root / "videos" / f"{name}.mat")
        n = len(made.frames)
        assert made.split is not None
        made.split[: n // 2] = 0
        made.split[n // 2 + 5 :] = 1
        start = pd.Timestamp("2001-01-01") + pd.Timedelta(int(rng.integers(0, 10**9)), "s")
        origin = start.normalize().value if form == "%H:%M:%S" else 0
        seconds = start + pd.to_timedelta(np.arange(n) // 25, "s")
        pd.Series(seconds.strftime(form), name="time").to_csv(
            root / "timestamps" / f"{name}.csv", index=False
        )
        # The last second may be cut short, whose frames stand at i/25 s all the same.
        made.frame_time = start.value - origin + np.arange(n) * FRAME
        rows = 2 * (n // 25 + 1) + 2
        made.current = np.round(rng.normal(7000, 300, (rows, 3)), 1)
        made.current_time = start.value - origin + np.arange(rows) * NS // 2
        table = pd.DataFrame(made.current, columns=["a", "b", "c"])
        table.insert(0, "time", (start + pd.to_timedelta(np.arange(rows) // 2, "s")).strftime(form))
        table.to_csv(root / "currents" / f"{name}.csv", index=False)
        lists["train"][f"{name}.mat"] = list(range(n // 2))
        lists["test"][f"{name}.mat"] = list(range(n // 2 + 5, n))
        out[name] = made
    for part, content in lists.items():
        (root / f"{part}.json").write_text(json.dumps(content))
    return out
