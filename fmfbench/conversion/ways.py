"""Places and options with which something converts: tried one after another, as its own refusals name them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fmfbench.clock import NS
from fmfbench.errors import FmfbenchError, SourceError
from fmfbench.sources.kinds import FileKind
from fmfbench.sources.layout import LAYOUTS, VIDEO_SUFFIXES, open_source
from fmfbench.sources.matlab.mat import open_mat
from fmfbench.sources.source import Options, Source, binary_blocks
from fmfbench.sources.v2 import find_v2_tree
from fmfbench.sources.video.reader import RawVideo

__all__ = ["READ_BYTES", "open_through", "ways"]

READ_BYTES = 256 << 20  # sources up to this are read to their end; of larger ones facts and indices only
_ROW_RATES = [Fraction(text) for text in ("2", "1/2", "1", "4", "5", "8", "10", "20", "25", "50")]
_SYNONYMS = {
    "video": ("video", "videos", "frames", "images", "img", "rgb", "vid", "movie"),
    "data": ("data", "video", "frames", "images"),
    "current": ("current", "currents", "i", "iabc", "amps", "cur"),
    "label": ("label", "labels", "mask", "masks", "gt", "annotation", "ground_truth"),
    "train_test_index": ("train_test_index", "index", "split", "train_test", "idx", "traintestindex"),
}


def ways(path: Path, kinds: dict[Path, FileKind], problems: list[str]) -> Iterator[tuple[Path, Options]]:
    """Places and options that convert, the plainest first; what stands against the others goes to `problems`."""
    whole = _way(path, Options(), problems)
    if whole is not None:
        yield path, whole
    if not path.is_dir():
        for video in (p for p in kinds if p != path and p.suffix.lower() in VIDEO_SUFFIXES):
            if (way := _way(video, Options(), problems)) is not None:
                yield video, way
        return
    tree = _tree(path)
    for layout in LAYOUTS if tree is None else ("v2",):
        names = _names(path, layout)
        if names:
            base = Options(layout=layout)
            good = tuple(
                n for n in names if open_through(path, replace(base, only=(n,)), problems) is not None
            )
            if good and (way := _way(path, replace(base, only=good), problems)) is not None:
                yield path, way
            for name in names:
                if (way := _way(path, replace(base, only=(name,)), problems)) is not None:
                    yield path, way
    if tree is not None:
        return
    for folder in sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith(".")):
        if any(folder in p.parents for p in kinds) and (way := _way(folder, Options(), problems)) is not None:
            yield folder, way


def _way(path: Path, options: Options, problems: list[str]) -> Options | None:
    """The options, or those and what the refusals of them name, with which a place converts."""
    said: list[str] = []
    found = options if open_through(path, options, said) is not None else None
    for more in [] if found else _remedies(path, options, said[0] if said else ""):
        again: list[str] = []
        if open_through(path, more, again) is not None:
            found = more
            break
        for yet in _remedies(path, more, again[0]):  # a partial tree of damaged files, say
            if found is None and open_through(path, yet, []) is not None:
                found = yet
        if found is not None:
            break
    problems += [text for text in said if text not in problems]
    return found


def _remedies(path: Path, options: Options, said: str) -> Iterator[Options]:
    """Options that a refusal names, where they leave no choice to a person."""
    if "--only" in said and not options.only and (named := re.findall(r"--only (\S+)", said)):
        yield replace(options, only=tuple(named))
    if "--map" in said and path.is_file() and not options.names:
        yield from (replace(options, names=names) for names in _mappings(path))
    if "--current-hz" in said and options.current_hz is None:
        rate = _row_rate(path, options)
        if rate is not None:
            yield replace(options, current_hz=rate)
    if "--fps" in said and not options.steady and (steady := _steady(path, options)) is not None:
        yield steady
    if "--allow-damaged" in said and not options.allow_damaged:
        yield replace(options, allow_damaged=True)


def _row_rate(path: Path, options: Options) -> Fraction | None:
    """Rows a second by which counted rows last as long as their videos: the nominal rate where it fits, or another."""
    nominal, said = replace(options, current_hz=Fraction(2)), [""]
    source = open_through(path, nominal, said)
    if source is None and "--fps" in said[-1] and (steady := _steady(path, nominal)) is not None:
        source = open_through(path, steady, [])
    if source is None:
        return None
    spans = [(len(r.current_time), _seconds(r.frame_time)) for r in source.recordings]
    to_a_row = {rate for rate in _ROW_RATES if all(abs(n - rate * s) <= 1.5 for n, s in spans)}
    about = {rate for rate in _ROW_RATES if all(abs(n - rate * s) <= 0.1 * n for n, s in spans)}
    for fits in ({Fraction(2)} & (to_a_row | about), to_a_row, about):
        if len(fits) == 1:
            return fits.pop()
    return None


def _seconds(times: NDArray[np.int64]) -> float:
    """How long frames last, the last one included."""
    steps = np.diff(times)
    return float(times[-1] - times[0] + np.median(steps)) / NS if len(steps) else 0.0


def _steady(path: Path, options: Options) -> Options | None:
    """The videos' own rate in the place of stamps that do not advance, where it fills all the time that they tell."""
    try:
        videos = {r.name: r.video for r in open_source(path, options).recordings}
        raw = {name: video for name, video in videos.items() if isinstance(video, RawVideo)}
        rates = {video.rate for video in raw.values()}
        if len(rates) != 1 or raw.keys() != videos.keys():
            return None
        rate = rates.pop()
        told = {name: round(int(v.scan().time[-1]) * rate / NS) + 1 for name, v in raw.items()}
    except FmfbenchError:
        return None
    steady = replace(options, fps=rate, steady=True)
    source = open_through(path, steady, [])
    if source is None or any(r.num_frames != told[r.name] for r in source.recordings):
        return None
    return steady


def _mappings(path: Path) -> Iterator[dict[str, str]]:
    """Variables that other names are clearly meant for."""
    try:
        with open_mat(path) as mat:
            there = list(mat.variables)
    except FmfbenchError:
        return
    for wanted in (("video", "current", "label", "train_test_index"), ("data", "label"), ("data",)):
        names: dict[str, str] = {}
        for ours in wanted:
            found = [t for t in there if t.casefold() in _SYNONYMS[ours] and t not in names.values()]
            if len(found) == 1:
                names[ours] = found[0]
        if len(names) == len(wanted):
            yield {ours: theirs for ours, theirs in names.items() if ours != theirs}


def _tree(path: Path) -> Path | None:
    try:
        return find_v2_tree(path) if path.is_dir() else None
    except SourceError:
        return None


def _names(path: Path, layout: str) -> list[str]:
    """Names of the recordings of a layout that a folder may hold, where each is one file's."""
    suffixes = {"recording": VIDEO_SUFFIXES}.get(layout, (".mat",))
    folder = path
    if layout == "v2":
        tree = _tree(path)
        if tree is None:
            return []
        folder = tree / "videos"
    files = [p for p in folder.iterdir() if not p.name.startswith(".") and p.is_file()]
    stems = [p.stem for p in files if p.suffix.lower() in suffixes]
    return sorted(set(stems)) if len(stems) == len(set(stems)) else []


def open_through(path: Path, options: Options, problems: list[str]) -> Source | None:
    """The source, read to its end where it is small; or None, and why not."""
    try:
        source = open_source(path, options)
        if sum(p.stat().st_size for p in source.files) > READ_BYTES:
            return _scanned(source)
        return _read_through(source)
    except (FmfbenchError, OSError) as error:
        if str(error) not in problems:
            problems.append(str(error))
        return None


def _scanned(source: Source) -> Source:
    return replace(
        source, recordings=tuple(r.unmeasured.scanned() if r.unmeasured else r for r in source.recordings)
    )


def _read_through(source: Source) -> Source:
    """Every frame and label, so that damage within is met now."""
    recordings = []
    for recording in source.recordings:
        if recording.unmeasured is not None:
            notes = [note for _, note in recording.unmeasured.timed_blocks(64, [])]
            recordings.append(replace(recording.unmeasured.measured(notes), unmeasured=None))
            continue
        for _ in recording.video.blocks(64):
            pass
        if recording.pixel_labels is not None:
            for _ in binary_blocks(recording.pixel_labels.blocks(64), recording.name):
                pass
        recordings.append(recording)
    return replace(source, recordings=tuple(recordings))
