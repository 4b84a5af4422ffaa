"""A small data set in memory with the interface of fmfbench.data.Dataset."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass

import numpy as np
import pytest

from fmfbench.exchange.labels import Labels
from fmfbench.exchange.masks import pack_masks

SPLITS = {"train": 0, "test": 1, "unused": 2}


@dataclass
class FakeRecording:
    name: str
    first_id: int
    masks: np.ndarray  # (N, H, W) uint8
    split: np.ndarray
    frame_time: np.ndarray
    layers: tuple[str, ...] = ("source",)
    class_label: np.ndarray = None
    current: np.ndarray = None
    current_time: np.ndarray = None

    def __post_init__(self):
        if self.class_label is None:
            self.class_label = self.masks.any(axis=(1, 2)).astype(np.uint8)

    num_frames = property(lambda self: len(self.masks))
    height = property(lambda self: self.masks.shape[1])
    width = property(lambda self: self.masks.shape[2])

    def read_masks(self, start, stop, layer=None):
        assert layer in (None, *self.layers)
        return self.masks[start:stop].copy()

    def read_video(self, start, stop):
        shades = (np.arange(start, stop)[:, None, None, None] % 200 + 20).astype(np.uint8)
        video = np.broadcast_to(shades, (stop - start, self.height, self.width, 3)).copy()
        video[..., 0] += 30 * self.masks[start:stop]
        return video


@dataclass
class FakeData:
    recordings: dict
    fingerprint: str = "f00d" * 16
    default_layer: str | None = "source"
    split_name: str = "source"
    split_names = ("source",)

    def divided(self, split):
        return self, split

    def fingerprint_of(self, split):
        return self.fingerprint

    def sample_ids(self, split="all"):
        ids = [
            r.first_id + np.flatnonzero((r.split == SPLITS[split]) if split != "all" else r.split >= 0)
            for r in self.recordings.values()
        ]
        return np.concatenate(ids).astype(np.int64)

    def locate(self, ids):
        firsts = np.array([r.first_id for r in self.recordings.values()])
        index = np.searchsorted(firsts, ids, side="right") - 1
        return index.astype(np.int64), np.asarray(ids) - firsts[index]

    def class_labels(self, ids):
        return np.concatenate([r.class_label for r in self.recordings.values()])[ids]

    def test_masks(self):
        return np.concatenate([r.masks[r.split == 1] for r in self.recordings.values()])


def runs_of_events(rng, length, height, width, events):
    masks = np.zeros((length, height, width), np.uint8)
    for _ in range(events):
        start, top, left = rng.integers(length), rng.integers(height - 2), rng.integers(width - 2)
        masks[start : start + int(rng.integers(3, 30)), top : top + 3, left : left + 2] = 1
    return masks


def build_data(seed=0, sizes=((7, 9), (7, 9)), lengths=(310, 190)):
    rng = np.random.default_rng(seed)
    recordings, first = {}, 0
    for number, ((height, width), length) in enumerate(zip(sizes, lengths, strict=True)):
        split = np.zeros(length, np.uint8)
        split[length // 2 - 11 : length // 2] = 2
        split[length // 2 :] = 1
        seconds = np.arange(length) / 25 + (np.arange(length) > length * 3 // 4) * 5
        name = f"furnace_{number}"
        recordings[name] = FakeRecording(
            name,
            first,
            runs_of_events(rng, length, height, width, 6),
            split,
            (seconds * 1e9).astype(np.int64),
        )
        recordings[name].current_time = np.arange(0, int(seconds[-1] * 2) + 2) * 500_000_000
        recordings[name].current = rng.normal(10_000, 500, (len(recordings[name].current_time), 3)).astype(
            "f4"
        )
        first += length
    return FakeData(recordings)


def labels_of(label, recording=None, step=40_000_000, mask=None):
    """Labels of test samples `step` ns apart, of one recording unless `recording` says of which."""
    recording = np.zeros(len(label), np.int64) if recording is None else np.asarray(recording)
    lengths = np.bincount(recording)
    frame = np.concatenate([np.arange(length) for length in lengths])
    return Labels(
        sample_id=np.arange(len(label)),
        recording=recording,
        frame=frame,
        frame_time=frame * step,
        split=np.ones(len(label), np.uint8),
        class_label=label.astype(np.uint8),
        mask_bits=None if mask is None else pack_masks(mask),
        mask_shape=None if mask is None else mask.shape[1:],
        recordings=tuple("abc"[: len(lengths)]),
        fingerprint="ab" * 32,
    )


@pytest.fixture
def data():
    return build_data()


@pytest.fixture
def guess(data):
    """Arrays of an imperfect prediction of the test split, in a shuffled order."""
    rng = np.random.default_rng(5)
    ids = data.sample_ids("test")
    label = data.class_labels(ids)
    score = np.clip(label * 0.4 + rng.random(len(ids)) * 0.6, 0, 1)
    mask = data.test_masks() ^ (rng.random((len(ids), 7, 9)) < 0.05)
    order = rng.permutation(len(ids))
    return {"sample_id": ids[order], "score": score[order], "mask": mask[order].astype(np.uint8)}


@pytest.fixture
def make_data():
    return build_data


@pytest.fixture
def npy_bytes():
    return to_npy


@pytest.fixture
def zip_of():
    return to_zip


@pytest.fixture
def save(tmp_path):
    """Write arrays with numpy.savez, as anyone would, and give the path."""

    def write(arrays, name="predictions.npz", compressed=False):
        path = tmp_path / name
        (np.savez_compressed if compressed else np.savez)(path, **arrays)
        return path

    return write


def to_npy(array, version=None, fortran=False):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asfortranarray(array) if fortran else array, version=version)
    return stream.getvalue()


def to_zip(members, method=zipfile.ZIP_STORED):
    """A zip of (name, bytes) pairs."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return stream.getvalue()
