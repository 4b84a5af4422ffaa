"""What the page is shown of a store: facts and arrays of each recording, frames, masks, predictions."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.clock import NS
from fmfbench.conversion.summary import gaps
from fmfbench.data import Dataset, open_dataset
from fmfbench.errors import InputError, StoreError
from fmfbench.exchange.labels import labels_from_dataset
from fmfbench.exchange.masks import unpack_masks
from fmfbench.exchange.predictions import Predictions, read_predictions
from fmfbench.exchange.truth import read_truth
from fmfbench.scoring.events import ALARM_HOLD_SECONDS, segments
from fmfbench.store.layers import provenance_of
from fmfbench.store.reader import StoreReader
from fmfbench.store.recording import Recording
from fmfbench.store.schema import ROOT, SPLITS
from fmfbench.studio.draft import Frame
from fmfbench.studio.judging import Judge, Judging
from fmfbench.windows.plan import Timeline, plan_current, plan_video
from fmfbench.windows.protocol import get_protocol

__all__ = ["Library", "frame_of", "is_large", "read_visibility"]

LARGE_SIDE = 256
"""Frames with a longer side are sent as JPEG; smaller ones byte by byte."""

_NONE = 255


class Library:
    """A store, opened anew when it changes on the disk, with prediction files and FMF-Sim's hidden states beside it.

    Methods may be called from any thread.

    Args:
        store: its path.
        predictions: prediction files of its samples.
        judges: models that judge the recording that is shown, while it is.
        visibility: recording -> (N,) share of the spot's contrast that mist and glare let through, as FMF-Sim
            writes it.

    Raises:
        StoreError: no store there, or one without recordings.
        PredictionError: a file that is no prediction file; InputError: one of other samples.
    """

    def __init__(
        self,
        store: Path,
        predictions: Sequence[Path] = (),
        visibility: Mapping[str, NDArray[np.float32]] | None = None,
        judges: Sequence[Judge] = (),
    ) -> None:
        self.path = store
        self.visibility = dict(visibility or {})
        self._lock = threading.Lock()
        self._stamp = self._read_stamp()
        self._data = open_dataset(store)
        if not self._data.recordings:
            raise StoreError(f"{store}: expected a store with at least one recording, got none")
        self.predictions = [self._read_predictions(path) for path in predictions]
        self.runs = [Judging(judge, lambda: self.data) for judge in judges]

    @property
    def data(self) -> Dataset:
        """The store as it is on the disk now."""
        with self._lock:
            stamp = self._read_stamp()
            if stamp is not None and stamp != self._stamp:
                self._data, self._stamp = open_dataset(self.path), stamp
            return self._data

    @property
    def version(self) -> str:
        """Changes when layers or splits are added to the store."""
        return self.data.fingerprint[:16] + str(self._stamp)

    def recording(self, name: str) -> Recording:
        """StoreError where there is no such recording."""
        found = self.data.recordings.get(name)
        if found is None:
            raise StoreError(
                f"expected one of the recordings {', '.join(self.data.recordings)}, got {name!r}"
            )
        return found

    def summaries(self) -> list[dict[str, Any]]:
        """The recordings in order of id, for the list that the page begins with."""
        return [
            {
                "name": r.name,
                "frames": r.num_frames,
                "height": r.height,
                "width": r.width,
                "first_id": r.first_id,
                "current_rows": len(r.current_time),
                "start_ns": str(int(r.frame_time[0])) if r.num_frames else None,
                "origin": r.time_origin,
                "seconds": _seconds(r)[-1].item() if r.num_frames else 0.0,
                "layers": list(r.layers),
                "default_layer": r.default_layer if r.masks is not None else None,
                "normal": int(np.count_nonzero(r.class_label == 0)),
                "abnormal": int(np.count_nonzero(r.class_label == 1)),
                "unlabelled": int(np.count_nonzero(r.class_label == _NONE)),
                "splits": {name: int(np.count_nonzero(r.split == code)) for name, code in SPLITS.items()},
                "jpeg": is_large(r),
            }
            for r in self.data.recordings.values()
        ]

    def facts(self, name: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """What is drawn of a recording on the time axis: facts as JSON, and arrays.

        Arrays: `seconds` (N,) float64 since the first frame; `current_seconds` (M,), `current` (M,3) A; `split`,
        `split_k` of the store's other splits, and `class_label`, (N,) uint8;
        `visibility` (N,) on FMF-Sim; of prediction file k `score_k` (N,) float32, NaN where
        it has none, and `pred_k` (N,) uint8, 255 where it has none.
        """
        r = self.recording(name)
        start = int(r.frame_time[0]) if r.num_frames else 0
        arrays: dict[str, NDArray[Any]] = {
            "seconds": _seconds(r),
            "current_seconds": (r.current_time - start) / NS,
            "current": r.current,
            "split": r.split,
            "class_label": r.class_label,
        }
        if name in self.visibility:
            arrays["visibility"] = self.visibility[name]
        data = self.data
        others = [split for split in data.split_names if split != data.split_name]
        arrays |= {f"split_{k}": r.named_split(split) for k, split in enumerate(others)}
        wide, _ = gaps(r.frame_time)
        shown: list[dict[str, Any]] = []
        facts: dict[str, Any] = {
            "name": name,
            "start_ns": str(start),
            "origin": r.time_origin,
            "split": data.split_name,
            "other_splits": others,
            "gaps": [[int(row), int(row) + 1] for row in wide],
            "layers": [
                {
                    "name": layer,
                    "default": layer == r.default_layer,
                    "margin": (r.path / "margins" / layer).is_dir(),
                    "events": _events(r, layer),
                }
                for layer in r.layers
            ],
            "predictions": shown,
        }
        for k, found in enumerate(self.predictions):
            entry, score, decision = self._of_recording(found, r)
            arrays |= {f"score_{k}": score, f"pred_{k}": decision}
            shown.append(entry)
        for k in range(len(self.runs)):
            entry, own = self.verdicts(name, k)
            arrays |= {f"{key}_{len(self.predictions) + k}": array for key, array in own.items()}
            shown.append(entry)
        return facts, arrays

    def verdicts(self, name: str, k: int) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """What run k has judged of a recording so far: facts as of a prediction file, `score` and `pred` (N,)."""
        r = self.recording(name)
        if not 0 <= k < len(self.runs):
            raise InputError(f"expected a run 0 to {len(self.runs) - 1}, got {k}")
        run, found = self.runs[k], self.runs[k].found(r)
        decision = found.decision
        judged = np.flatnonzero(decision != _NONE)
        entry = {
            "file": run.name,
            "model": run.name,
            "run": k,
            "samples": len(judged),
            "has_score": True,
            "has_mask": True,  # until it is known
            "threshold": run.threshold,
            "alarms": _alarms(r, judged, decision),
            "note": None,
        }
        return entry, {"score": found.score, "pred": decision}

    def frames(self, name: str, start: int, stop: int) -> NDArray[np.uint8]:
        """(n,H,W,3) uint8 RGB, upright."""
        return self.recording(name).read_video(start, stop)

    def masks(self, name: str, layer: str, start: int, stop: int) -> NDArray[np.uint8]:
        """(n,H,W) uint8 0/1, upright."""
        return self.recording(name).read_masks(start, stop, layer)

    def predicted_masks(self, name: str, k: int, start: int, stop: int) -> NDArray[np.uint8]:
        """(n,H,W) uint8 0/1 of prediction file k, or of the run after them; 255 where it has none.

        InputError where a file has no masks at all.
        """
        r = self.recording(name)
        if len(self.predictions) <= k < len(self.predictions) + len(self.runs):
            return self._judged_masks(r, self.runs[k - len(self.predictions)], start, stop)
        if not 0 <= k < len(self.predictions):
            raise InputError(f"expected a prediction file 0 to {len(self.predictions) - 1}, got {k}")
        found = self.predictions[k]
        if found.mask_bits is None or found.mask_shape is None:
            raise InputError(f"{found.file}: expected predictions with masks, got none")
        out = np.full((stop - start, r.height, r.width), _NONE, np.uint8)
        if found.mask_shape == (r.height, r.width):
            rows = slice(*np.searchsorted(found.sample_id, (r.first_id + start, r.first_id + stop)).tolist())
            at = found.sample_id[rows] - r.first_id - start
            out[at] = unpack_masks(found.mask_bits[rows], found.mask_shape)
        return out

    def _judged_masks(self, r: Recording, run: Judging, start: int, stop: int) -> NDArray[np.uint8]:
        found, shape = run.found(r), (r.height, r.width)
        out = np.full((stop - start, *shape), _NONE, np.uint8)
        there = np.flatnonzero(~np.isnan(found.score[start:stop]))
        if found.bits is not None and found.bits.shape[1] == -(-r.height * r.width // 8):
            out[there] = unpack_masks(found.bits[start + there], shape)
        return out

    def margin(self, name: str, layer: str, frame: int) -> NDArray[np.float32] | None:
        """(H,W) of the vote that made a refined layer, in [-1, 1]; None where `annotate --margin` did not keep it."""
        folder = self.recording(name).path / "margins" / layer
        if layer not in self.recording(name).layers or not folder.is_dir():
            return None
        from fmfbench.store.shards import ArrayReader

        return np.asarray(ArrayReader(folder).read(frame, frame + 1)[0], np.float32)

    def window(self, name: str, frame: int, protocol: str) -> dict[str, Any]:
        """What a window that ends at `frame` really holds: the frames and rows it takes, and which are its own."""
        r, rules = self.recording(name), get_protocol(protocol)
        if not 0 <= frame < r.num_frames:
            raise InputError(f"{name}: expected a frame below {r.num_frames}, got {frame}")
        line = Timeline(
            name=name,
            frame_time=r.frame_time,
            split=r.split,
            current_time=r.current_time,
            current_finite=np.asarray(np.isfinite(r.current).all(axis=1)),
        )
        at = np.array([frame])
        video, current = (plan(line, at, rules, masked=False) for plan in (plan_video, plan_current))
        last = float(_seconds(r)[frame])
        video_span = rules.frame_lag_ns(rules.num_frames - 1) / NS
        current_span = rules.current_lag_ns(rules.num_current - 1) / NS
        return {
            "protocol": rules.name,
            "frames": video.index[0].tolist(),
            "frames_valid": video.valid[0].tolist(),
            "frames_foreign": video.foreign[0].tolist(),
            "video_seconds": [last - video_span, last],
            "current_seconds": [last - current_span, last],
            "current_valid": current.valid[0].tolist(),
            "current_foreign": current.foreign[0].tolist(),
        }

    def _of_recording(
        self, found: Predictions, r: Recording
    ) -> tuple[dict[str, Any], NDArray[np.float32], NDArray[np.uint8]]:
        first, last = np.searchsorted(found.sample_id, (r.first_id, r.first_id + r.num_frames)).tolist()
        at = found.sample_id[first:last] - r.first_id
        score = np.full(r.num_frames, np.nan, np.float32)
        decision = np.full(r.num_frames, _NONE, np.uint8)
        if found.score is not None:
            score[at] = found.score[first:last]
        decision[at] = found.decision[first:last]
        threshold = found.meta.get("threshold", 0.5)
        entry = {
            "file": found.file,
            "model": str(found.meta.get("model", "")) or found.file,
            "samples": len(at),
            "has_score": found.score is not None,
            "has_mask": found.mask_bits is not None and found.mask_shape == (r.height, r.width),
            "threshold": float(threshold) if isinstance(threshold, int | float) else 0.5,
            "alarms": _alarms(r, at, decision),
            "note": self._note(found),
        }
        return entry, score, decision

    def _note(self, found: Predictions) -> str | None:
        made_for = found.fingerprint
        data = self.data
        if made_for is None or made_for in {data.fingerprint_of(split) for split in data.split_names}:
            return None
        return (
            "made for other labels or another split of this store, or for another store; look at it with care"
        )

    def _read_predictions(self, path: Path) -> Predictions:
        found = read_predictions(path)
        if len(found.sample_id) and found.sample_id[-1] >= self._data.num_samples:
            raise InputError(
                f"{path}: expected sample ids below {self._data.num_samples}, those of {self.path}, got "
                f"{found.sample_id[-1]}; name the store that it was made for"
            )
        return found

    def _read_stamp(self) -> tuple[int, int] | None:
        """Which root the store has; None in the moment in which it is being replaced."""
        try:
            found = (self.path / ROOT).stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns


def frame_of(data: StoreReader) -> Frame:
    """What boxes are drawn on: the stored frame, or the crop that it shows where a side was stretched."""
    first = next(iter(data.recordings.values()))
    size = first.width, first.height
    crop = data.attributes.get("fmfbench.options", {}).get("crop")
    if crop is not None and size[0] * crop[3] != size[1] * crop[2]:
        size = int(crop[2]), int(crop[3])
    return Frame(size=size, frame_counts={name: r.num_frames for name, r in data.recordings.items()})


def read_visibility(folder: Path, data: StoreReader) -> dict[str, NDArray[np.float32]]:
    """Recording -> (N,) share of the spot's contrast that mist and glare let through, of FMF-Sim's hidden states.

    Raises:
        PredictionError: a file is missing, or belongs to other recordings.
    """
    labels = labels_from_dataset(data, masks=False)
    counts = {name: r.num_frames for name, r in data.recordings.items()}
    values = read_truth(folder, labels, counts).values["visibility"].astype(np.float32)
    return {name: values[r.first_id : r.first_id + r.num_frames] for name, r in data.recordings.items()}


def is_large(recording: Recording) -> bool:
    """Whether frames are sent as JPEG."""
    return max(recording.height, recording.width) > LARGE_SIDE


def _seconds(r: Recording) -> NDArray[np.float64]:
    """(N,) of the frames since the first."""
    return np.asarray((r.frame_time - r.frame_time[:1]) / NS, np.float64)


def _alarms(r: Recording, at: NDArray[np.int64], decision: NDArray[np.uint8]) -> list[list[int]]:
    """First and last frame of each alarm, by the decisions (N,) on the frames `at`."""
    found = segments(decision[at] == 1, np.zeros(len(at), np.int64), r.frame_time[at], ALARM_HOLD_SECONDS)
    return [[int(at[a]), int(at[b])] for a, b in found]


def _events(r: Recording, layer: str) -> list[dict[str, Any]]:
    events = provenance_of(r, layer).get("events", [])
    keys = ("id", "onset", "apex", "offset")
    return [{key: event.get(key) for key in keys} for event in events if isinstance(event, dict)]
