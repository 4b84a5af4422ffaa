"""Layout V2: a folder of videos, currents, timestamps and frame lists, or one of its `.mat` files alone."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.clock import nominal_times
from fmfbench.errors import SourceError
from fmfbench.sources.alignment import alignment_remarks, refuse_apart
from fmfbench.sources.matlab.mat import open_mat
from fmfbench.sources.matrecording import LabelVariable, VideoVariable, label_remarks, open_labels, open_video
from fmfbench.sources.source import Options, SourceRecording
from fmfbench.sources.table.currents import read_current_table, read_stamps
from fmfbench.store.schema import SPLITS

_REACH = 220.0  # s of current that the paper's window looks back

__all__ = ["find_v2_tree", "read_v2_file", "read_v2_tree"]


def find_v2_tree(folder: Path) -> Path | None:
    """The folder that holds `videos/`: this one, or the only one directly below that does."""
    if (folder / "videos").is_dir():
        return folder
    below = sorted(p for p in folder.iterdir() if p.is_dir() and (p / "videos").is_dir())
    if len(below) > 1:
        raise SourceError(
            f"{folder}: expected one V2 tree, got {', '.join(p.name for p in below)}; give one of them"
        )
    return below[0] if below else None


def read_v2_tree(root: Path, options: Options) -> tuple[tuple[SourceRecording, ...], tuple[Path, ...]]:
    """All recordings of a tree, by name, and every file read."""
    there = sorted(p for p in (root / "videos").iterdir() if _is_mat(p))
    videos = [p for p in there if not options.only or p.stem in options.only]
    if there and not videos:
        raise SourceError(
            f"{root}: expected a recording {options.only[0]!r} (--only), got {', '.join(p.stem for p in there)}"
        )
    if not videos:
        raise SourceError(f"{root / 'videos'}: expected .mat files, got none")
    absent = [
        str(p.relative_to(root))
        for p in (
            root / "train.json",
            root / "test.json",
            *(root / d / f"{v.stem}.csv" for v in videos for d in ("currents", "timestamps")),
        )
        if not p.is_file()
    ]
    if absent:
        raise SourceError(
            f"{root}: expected train.json, test.json and for every video a table in currents/ and timestamps/, "
            f"got a V2 tree without {', '.join(absent[:5])}{' ...' if len(absent) > 5 else ''}"
        )
    lists = {name: _read_frame_lists(root / f"{name}.json", there, options) for name in ("train", "test")}
    recordings = tuple(sorted((_read_one(root, v, lists, options) for v in videos), key=lambda r: r.name))
    files = [root / "train.json", root / "test.json"]
    for v in videos:
        files += [v, root / "currents" / f"{v.stem}.csv", root / "timestamps" / f"{v.stem}.csv"]
    return recordings, tuple(files)


def read_v2_file(path: Path, options: Options) -> SourceRecording:
    """One V2 `.mat` on its own: no split, no currents, frames at i/fps s."""
    video, labels, said = _read_mat(path, options)
    remarks = ["no currents", "no split: all frames are unused", *said]
    return _assemble(
        path.stem,
        video,
        labels,
        frame_time=nominal_times(video.num_frames, options.fps),
        time_origin="start",
        current=np.empty((0, 3), np.float32),
        current_time=np.empty(0, np.int64),
        split=np.full(video.num_frames, SPLITS["unused"], np.uint8),
        remarks=remarks,
    )


def _read_one(
    root: Path, path: Path, lists: dict[str, dict[str, list[int]]], options: Options
) -> SourceRecording:
    video, labels, said = _read_mat(path, options)
    nominal = max(1, round(options.fps))
    stamps_path = root / "timestamps" / f"{path.stem}.csv"
    frames = read_stamps(stamps_path, nominal, options)
    if len(frames.time) != video.num_frames:
        raise SourceError(
            f"{stamps_path}: expected one time for each of the {video.num_frames} frames of {path.name}, "
            f"got {len(frames.time)}"
        )
    currents_path = root / "currents" / f"{path.stem}.csv"
    current = read_current_table(currents_path, options)
    if len(current.time) and video.num_frames and frames.dated != current.dated:
        raise SourceError(
            f"{currents_path}: expected times {'with' if frames.dated else 'without'} a date, as in "
            f"{stamps_path}, got the other; both tables must tell the same clock"
        )
    refuse_apart(str(currents_path), frames.time, current.time, clock=frames.dated, reach=_REACH)
    return _assemble(
        path.stem,
        video,
        labels,
        frame_time=frames.time,
        time_origin="clock" if frames.dated else "start",
        current=current.current,
        current_time=current.time,
        split=_split(path.name, video.num_frames, lists, root),
        remarks=[*said, *frames.remarks, *current.remarks, *alignment_remarks(frames.time, current.time)],
    )


def _read_mat(
    path: Path, options: Options
) -> tuple[VideoVariable, LabelVariable | NDArray[np.uint8] | None, list[str]]:
    with open_mat(path, filled={options.name("label")}) as mat:
        data = options.names.get("data", options.names.get("video", "data"))
        if data not in mat.variables:
            raise SourceError(
                f"{path}: layout v2 expects a variable {data!r}, got {mat.describe()}; "
                "name another with --map, for example --map data=Video"
            )
        video = open_video(mat, data, options)
        label = options.name("label")
        if label not in mat.variables:
            if "label" in options.names:
                raise SourceError(f"{path}: expected a variable {label!r} (--map), got {mat.describe()}")
            return video, None, []
        return video, open_labels(mat, label, video, options), label_remarks(mat, label)


def _assemble(
    name: str,
    video: VideoVariable,
    labels: LabelVariable | NDArray[np.uint8] | None,
    *,
    remarks: Iterable[str],
    **facts: Any,
) -> SourceRecording:
    notes = list(remarks)
    if labels is None:
        notes.append("no labels")
    return SourceRecording(
        name=name,
        num_frames=video.num_frames,
        height=video.height,
        width=video.width,
        video=video,
        pixel_labels=labels if isinstance(labels, LabelVariable) else None,
        frame_labels=labels if isinstance(labels, np.ndarray) else None,
        remarks=tuple(notes),
        chunks=video.chunks,
        **facts,
    )


def _split(
    key: str, num_frames: int, lists: dict[str, dict[str, list[int]]], root: Path
) -> NDArray[np.uint8]:
    split = np.full(num_frames, SPLITS["unused"], np.uint8)
    for name, frames in lists.items():
        where = f"{root / f'{name}.json'}: {key}"
        listed = np.array(frames.get(key, []), dtype=object)
        outside = [f for f in listed if not 0 <= f < num_frames]
        if outside:
            raise SourceError(
                f"{where}: expected 0-based frames below {num_frames}, got {outside[0]}"
                f"{f' and {len(outside) - 1} more' if len(outside) > 1 else ''}"
            )
        rows = listed.astype(np.int64)
        values, counts = np.unique(rows, return_counts=True)
        if (counts > 1).any():
            raise SourceError(f"{where}: expected each frame once, got {values[counts > 1][0]} more often")
        both = rows[split[rows] != SPLITS["unused"]]
        if len(both):
            raise SourceError(f"{where}: expected one split a frame, got frame {both[0]} in train.json too")
        split[rows] = SPLITS[name]
    return split


def _read_frame_lists(path: Path, videos: list[Path], options: Options) -> dict[str, list[int]]:
    """`{"NAME.mat": [0-based frame indices]}`, with every name one of the videos."""
    try:
        document = json.loads(path.read_bytes(), object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        raise SourceError(
            f"{path}: expected JSON of file names to lists of frames, got none ({error})"
        ) from None
    if not isinstance(document, dict):
        raise SourceError(
            f"{path}: expected an object of file names to lists of frames, got a {type(document).__name__}"
        )
    names = {v.name for v in videos}
    for key, frames in document.items():
        if key not in names and not options.only:
            raise SourceError(_missing_video(path, key, videos, set(document)))
        if not isinstance(frames, list) or not all(type(f) is int for f in frames):
            raise SourceError(
                f"{path}: expected a list of whole frame numbers for {key!r}, got something else"
            )
    return document


def _missing_video(path: Path, key: str, videos: list[Path], keys: set[str]) -> str:
    have = [v for v in videos if v.name in keys]
    if not key.endswith(".mat") or not have:
        shown = ", ".join(sorted(v.name for v in videos)[:5])
        return f"{path}: {key!r} is not among the videos ({shown}); keys are file names with .mat"
    missing = sorted(k for k in keys if k not in {v.name for v in videos})
    rest = " ".join(f"--only {v.stem}" for v in have)
    return (
        f"{path}: {key!r} is not among the videos: missing, or not downloaded: {', '.join(missing)}; put it into "
        f"{path.parent / 'videos'}, or convert the rest with {rest}"
    )


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("a name stands twice")
    return out


def _is_mat(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() == ".mat" and not path.name.startswith(".")
