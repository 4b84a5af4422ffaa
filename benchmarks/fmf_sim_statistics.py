"""The figures of data_cards/fmf_sim.md that need no trained network, from a V2 tree of FMF-Sim.

    fmfbench simulate furnace --preset full
    python benchmarks/fmf_sim_statistics.py furnace

Prints, over test frames: what share is hidden, how well single statistics of a frame separate the classes (AUROC;
0.5 = not at all), and how accurate a classifier on hand-made features of the current alone is, by how far back it sees.
All of it is on FMF-Sim and says nothing about real furnaces.
"""

from __future__ import annotations

import json
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

FloatArray = npt.NDArray[np.float64]

EVERY = 25  # one test frame a second for the picture's statistics
CURRENT_EVERY = 12  # two frames a second for the current
HORIZONS = (5, 20, 60, 220)  # s


@dataclass(frozen=True)
class Recording:
    """What the statistics need of one recording."""

    path: Path
    label: npt.NDArray[np.bool_]  # (T,)
    split: npt.NDArray[np.uint8]  # (T,) 0 train, 1 test, 2 unused
    visibility: npt.NDArray[np.float32]  # (T,)
    amperes: FloatArray  # (M, 3)
    row: npt.NDArray[np.int64]  # (T,) the current row at each frame


def read_recording(folder: Path, name: str) -> Recording:
    """One recording of the tree and its truth."""
    tree = folder / "pixel-level"
    with np.load(folder / "truth" / f"{name}.npz") as truth:
        label, visibility = truth["event"] >= 0, truth["visibility"]
    split = np.full(len(label), 2, dtype=np.uint8)
    for value, part in enumerate(("train", "test")):
        split[json.loads((tree / f"{part}.json").read_text())[f"{name}.mat"]] = value
    current = (tree / "currents" / f"{name}.csv").read_text().splitlines()[1:]
    seconds = np.array([line.split(",")[0] for line in current], dtype="datetime64[s]")
    stamps = (tree / "timestamps" / f"{name}.csv").read_text().split("\n")[1:-1]
    row = np.searchsorted(seconds, np.array(stamps, dtype="datetime64[s]"), side="left")
    amperes = np.array([line.split(",")[1:] for line in current], dtype=np.float64)
    return Recording(tree / "videos" / f"{name}.mat", label, split, visibility, amperes, row)


def frame_statistics(recording: Recording) -> dict[str, FloatArray]:
    """Statistics of every EVERY-th test frame that look at no place in particular, each (n,)."""
    frames = np.flatnonzero(recording.split == 1)[::EVERY]
    with h5py.File(recording.path) as file:
        video = np.stack([file["data"][int(f)] for f in frames])
    flat = video.reshape(len(video), 3, -1).astype(np.float64)
    luma = np.einsum("c,ncp->np", (0.299, 0.587, 0.114), flat)
    return {
        "label": recording.label[frames],
        "frame index": frames / len(recording.label),
        "mean brightness": flat.mean(axis=(1, 2)),
        "contrast": flat.std(axis=(1, 2)),
        "compressed size": np.array([len(zlib.compress(v.tobytes(), 6)) for v in video], dtype=np.float64),
        "brightest pixel, by luma": luma.max(axis=1),
        "brightest pixel, by its smallest channel": flat.min(axis=1).max(axis=1),
        "brightest pixel, by its greatest channel": flat.max(axis=(1, 2)),
        "mean blue": flat[:, 2].mean(axis=1),
        "mean red less blue": flat[:, 0].mean(axis=1) - flat[:, 2].mean(axis=1),
    }


def current_features(amperes: FloatArray, horizons: tuple[int, ...]) -> FloatArray:
    """(M, k) how lively the phases were over each horizon, and how far they moved between two, together and apart.

    Nothing of it has a sign that an event could share: which way the current goes in one is drawn for each.
    """
    lively = np.log(np.abs(np.diff(amperes, axis=0, prepend=amperes[:1])) + 60.0).mean(axis=1, keepdims=True)
    held = np.clip(amperes, 4000.0, 15000.0)  # drop-outs and jolts tell nothing of a level
    columns: list[FloatArray] = []
    before: list[tuple[FloatArray, FloatArray]] = []
    for seconds in horizons:
        level, mean = _trailing(lively, 2 * seconds), _trailing(held, 2 * seconds)
        columns.append(level)
        for shorter, nearer in before:
            moved = nearer - mean
            columns += [
                shorter - level,
                np.abs(moved.mean(axis=1, keepdims=True)),
                moved.std(axis=1, keepdims=True),
            ]
        before.append((level, mean))
    return np.concatenate(columns, axis=1)


def current_accuracy(recordings: list[Recording], horizons: tuple[int, ...]) -> float:
    """Test accuracy of gradient boosting on the current's features, fitted on train."""
    x, y, split = [], [], []
    for own in recordings:
        frames = np.arange(0, len(own.label), CURRENT_EVERY)
        x.append(current_features(own.amperes, horizons)[own.row[frames]])
        y.append(own.label[frames])
        split.append(own.split[frames])
    features, labels, splits = np.concatenate(x), np.concatenate(y), np.concatenate(split)
    model = HistGradientBoostingClassifier(
        max_iter=60, max_leaf_nodes=5, learning_rate=0.05, min_samples_leaf=200, random_state=0
    )
    model.fit(features[splits == 0], labels[splits == 0])
    return float(np.mean(model.predict(features[splits == 1]) == labels[splits == 1]))


def _trailing(values: FloatArray, rows: int) -> FloatArray:
    total = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    stop = np.arange(1, len(values) + 1)
    start = np.maximum(0, stop - rows)
    return (total[stop] - total[start]) / (stop - start)[:, None]


def main(folder: Path) -> None:
    """Print the tables."""
    made = json.loads((folder / "fmf-sim.json").read_text())
    print(f"FMF-Sim {made['version']}, preset {made['preset']}, seed {made['seed']} (simulated)")
    names = sorted(path.stem for path in (folder / "pixel-level" / "videos").glob("*.mat"))
    recordings = [read_recording(folder, name) for name in names]
    label = np.concatenate([own.label[own.split == 1] for own in recordings])
    visibility = np.concatenate([own.visibility[own.split == 1] for own in recordings])
    print(f"test frames {len(label)}, abnormal {label.mean():.4f}")
    for low, high in ((0.0, 0.1), (0.1, 0.5), (0.5, 1.01)):
        inside = (visibility >= low) & (visibility < high)
        print(f"visibility {low} to {min(high, 1.0)}: {inside.mean():.4f} of test frames")
    parts = [frame_statistics(own) for own in recordings]
    shown = np.concatenate([part["label"] for part in parts])
    for name in parts[0]:
        if name != "label":
            values = [f"{roc_auc_score(part['label'], part[name]):.3f}" for part in parts]
            whole = roc_auc_score(shown, np.concatenate([part[name] for part in parts]))
            print(f"AUROC of {name}: {whole:.3f}, per recording {', '.join(values)}")
    for k in range(1, len(HORIZONS) + 1):
        accuracy = current_accuracy(recordings, HORIZONS[:k])
        print(f"current alone, up to {HORIZONS[k - 1]} s back: accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
