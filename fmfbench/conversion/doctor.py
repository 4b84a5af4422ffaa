"""What lies at a path, what is wrong with it, and the one command that converts it.

A diagnosis opens the path as `convert` does, with the options that its own refusals name, until one way works. Nothing
is guessed that `convert` would not take: where readings of a time or a decimal sign remain, they are told, and no
command is given.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.clock import NS
from fmfbench.conversion.summary import describe_source, recording_lines
from fmfbench.errors import FmfbenchError, SourceError
from fmfbench.sources.kinds import FileKind, identify
from fmfbench.sources.layout import LAYOUTS, VIDEO_SUFFIXES, open_source
from fmfbench.sources.matlab.mat import open_mat
from fmfbench.sources.matrecording import LabelVariable
from fmfbench.sources.source import Options, Source, SourceRecording, binary_blocks
from fmfbench.sources.table.currents import TABLE_SUFFIXES
from fmfbench.sources.v2 import find_v2_tree
from fmfbench.sources.video.reader import RawVideo

__all__ = ["Diagnosis", "FileReport", "diagnose"]

_MOST_FILES = 2000
_DEPTH = 4
_READ_BYTES = 256 << 20  # sources up to this are read to their end; of larger ones facts and indices only
_SHOWN = 25
_ROW_RATES = [Fraction(text) for text in ("2", "1/2", "1", "4", "5", "8", "10", "20", "25", "50")]
_SYNONYMS = {
    "video": ("video", "videos", "frames", "images", "img", "rgb", "vid", "movie"),
    "data": ("data", "video", "frames", "images"),
    "current": ("current", "currents", "i", "iabc", "amps", "cur"),
    "label": ("label", "labels", "mask", "masks", "gt", "annotation", "ground_truth"),
    "train_test_index": ("train_test_index", "index", "split", "train_test", "idx", "traintestindex"),
}


@dataclass(frozen=True)
class FileReport:
    """One file: what it is, what is wrong with it, what to do ("" where nothing is)."""

    path: str
    is_: str
    problem: str = ""
    remedy: str = ""

    def to_dict(self) -> dict[str, str]:
        return {"path": self.path, "is": self.is_, "problem": self.problem, "remedy": self.remedy}


@dataclass(kw_only=True)
class Diagnosis:
    """What is at a path.

    Attributes:
        path: what was asked for.
        files: every file, with what is wrong with it.
        layout: as `convert` detects it, or None.
        command: what converts it, or None.
        problems: why not all of it converts as it is, in the words of `convert`.
        recordings: facts of what the command converts, as `convert --dry-run --json` tells them.
        hints: what to look at before trusting it.
    """

    path: str
    files: list[FileReport] = field(default_factory=list)
    layout: str | None = None
    command: str | None = None
    problems: list[str] = field(default_factory=list)
    recordings: list[dict[str, Any]] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self) | {"files": [f.to_dict() for f in self.files]}

    def to_text(self) -> str:
        """A page for people."""
        lines = [f"{self.path}  (layout {self.layout or 'unknown'})", ""]
        kinds: dict[str, int] = {}
        for report in self.files:
            if not report.problem:
                kinds[report.is_] = kinds.get(report.is_, 0) + 1
        lines += [f"  {count:5d} {name}" for name, count in sorted(kinds.items())]
        bad = [report for report in self.files if report.problem]
        for report in bad[:_SHOWN]:
            lines += [f"  wrong {report.path}: {report.problem}"]
            if report.remedy:
                lines += [f"        -> {report.remedy}"]
        if len(bad) > _SHOWN:
            lines.append(f"  and {len(bad) - _SHOWN} more files with a problem")
        shown = tuple(f"{report.path}: " for report in bad[:_SHOWN])
        for problem in self.problems:
            if not problem.startswith(shown):
                lines.append(f"  problem {problem}")
        for recording in self.recordings[:_SHOWN]:
            lines += ["", *recording_lines(recording)]
        if len(self.recordings) > _SHOWN:
            lines += ["", f"and {len(self.recordings) - _SHOWN} more recordings"]
        lines += ["", *(f"hint    {hint}" for hint in self.hints)]
        lines.append("Nothing here converts as it is." if self.command is None else "To convert it:")
        if self.command is not None:
            lines.append(f"  {self.command}")
        return "\n".join(lines)


def diagnose(path: str | Path) -> Diagnosis:
    """Look at a file or folder as `convert` would.

    Raises:
        SourceError: nothing is there.

    >>> diagnose("fmf.zarr.part")
    Traceback (most recent call last):
    fmfbench.errors.SourceError: fmf.zarr.part: no such file or folder
    """
    path = Path(path)
    if not path.exists() and not path.is_symlink():
        raise SourceError(f"{path}: no such file or folder")
    out = Diagnosis(path=str(path))
    kinds = {p: identify(p) for p in _files(path)}
    for place, options in _ways(path, kinds, out.problems):
        source = _open_through(place, options, [])
        if source is not None:
            out.layout = source.layout
            out.recordings = _facts(source)
            out.command = _command(place, options)
            out.hints = _hints(out.recordings)
            break
    if out.layout is None:
        out.layout = _likely_layout(path, kinds)
    out.files = [_report(p, kind, out.problems) for p, kind in kinds.items()]
    return out


def _files(path: Path) -> Iterator[Path]:
    """The files of a folder, a few levels down; of a file, what belongs to it by name."""
    if not path.is_dir():
        yield path
        beside = [
            p for p in sorted(path.parent.iterdir()) if p != path and p.stem == path.stem and p.is_file()
        ]
        mine = (*VIDEO_SUFFIXES, *TABLE_SUFFIXES)
        yield from (p for p in beside if path.suffix.lower() in mine and p.suffix.lower() in mine)
        return
    count = 0
    for p in sorted(path.rglob("*")):
        if count >= _MOST_FILES:
            return
        if len(p.relative_to(path).parts) <= _DEPTH and (not p.is_dir() or p.is_symlink()):
            count += 1
            yield p


def _ways(path: Path, kinds: dict[Path, FileKind], problems: list[str]) -> Iterator[tuple[Path, Options]]:
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
                n for n in names if _open_through(path, replace(base, only=(n,)), problems) is not None
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
    found = options if _open_through(path, options, said) is not None else None
    for more in [] if found else _remedies(path, options, said[0] if said else ""):
        again: list[str] = []
        if _open_through(path, more, again) is not None:
            found = more
            break
        for yet in _remedies(path, more, again[0]):  # a partial tree of damaged files, say
            if found is None and _open_through(path, yet, []) is not None:
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
    source = _open_through(path, nominal, said)
    if source is None and "--fps" in said[-1] and (steady := _steady(path, nominal)) is not None:
        source = _open_through(path, steady, [])
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
    source = _open_through(path, steady, [])
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


def _open_through(path: Path, options: Options, problems: list[str]) -> Source | None:
    """The source, read to its end where it is small; or None, and why not."""
    try:
        source = open_source(path, options)
        if sum(p.stat().st_size for p in source.files) > _READ_BYTES:
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


def _facts(source: Source) -> list[dict[str, Any]]:
    facts: list[dict[str, Any]] = describe_source(source)["recordings"]
    small = sum(p.stat().st_size for p in source.files) <= _READ_BYTES
    for fact, recording in zip(facts, source.recordings, strict=True):
        if small or recording.pixel_labels is None:
            fact.update(_label_facts(recording))
    return facts


def _label_facts(recording: SourceRecording) -> dict[str, Any]:
    """Values of the labels as the file has them, and how many frames they call abnormal."""
    values: set[float] = set()
    if recording.frame_labels is not None:
        return {
            "label_values": sorted(set(recording.frame_labels.tolist())),
            "abnormal_frames": int(recording.frame_labels.sum()),
        }
    if not isinstance(recording.pixel_labels, LabelVariable):
        return {}

    def seen(blocks: Iterator[NDArray[Any]]) -> Iterator[NDArray[Any]]:
        for block in blocks:
            values.update(np.unique(block).tolist())
            yield block

    abnormal = 0
    for block in binary_blocks(seen(recording.pixel_labels.stored_blocks(64)), recording.name):
        abnormal += int(block.any(axis=(1, 2)).sum())
    return {"label_values": sorted(values), "abnormal_frames": abnormal}


def _command(path: Path, options: Options) -> str:
    name = path.resolve().stem if path.is_file() else path.resolve().name
    parts = ["fmfbench", "convert", str(path), f"{re.sub(r'[^0-9A-Za-z._-]+', '_', name) or 'fmf'}.zarr"]
    if options.layout is not None:
        parts += ["--layout", options.layout]
    for ours, theirs in sorted(options.names.items()):
        parts += ["--map", f"{ours}={theirs}"]
    for only in options.only:
        parts += ["--only", only]
    if options.steady:
        parts += ["--fps", str(options.fps)]
    if options.current_hz is not None:
        parts += ["--current-hz", str(options.current_hz)]
    if options.allow_damaged:
        parts += ["--allow-damaged"]
    return shlex.join(parts)


def _hints(recordings: list[dict[str, Any]]) -> list[str]:
    out = []
    if any(r["height"] == r["width"] for r in recordings):
        out.append(
            "frames are square: whether they are upright shows only in a picture, `fmfbench view STORE -o view.png`"
        )
    if any(r["height"] > r["width"] for r in recordings):
        out.append(
            "frames are taller than wide: if the furnace lies on its side in `fmfbench view STORE -o view.png`, "
            "the file's axes are exchanged"
        )
    if any(r["height"] > 512 or r["width"] > 512 for r in recordings):
        out.append(
            "frames are large: keep the furnace alone with --crop X,Y,W,H and store it smaller with --size 64x64"
        )
    return out


def _likely_layout(path: Path, kinds: dict[Path, FileKind]) -> str | None:
    suffixes = {p.suffix.lower() for p in kinds}
    if path.is_dir() and any(p.is_dir() and p.name == "videos" for p in path.rglob("videos")):
        return "v2"
    if suffixes & set(VIDEO_SUFFIXES):
        return "recording"
    return None


def _report(path: Path, kind: FileKind, problems: list[str]) -> FileReport:
    problem, remedy = kind.problem, kind.remedy
    name = kind.name
    if kind.name.startswith(("MAT file v", "HDF5")):
        name, own = _mat_kind(path, kind.name)
        if own and not problem:
            problem, _, remedy = own.partition("; ")
    if not problem:
        own = next((p for p in problems if p.startswith(f"{path}: ")), "")
        problem, _, remedy = own.removeprefix(f"{path}: ").partition("; ")
    return FileReport(str(path), name, problem, remedy)


def _mat_kind(path: Path, name: str) -> tuple[str, str]:
    try:
        with open_mat(path):
            return name, ""
    except FmfbenchError as error:
        text = str(error).removeprefix(f"{path}: ")
        return ("Octave HDF5 file" if "Octave's own HDF5" in text else name), text
