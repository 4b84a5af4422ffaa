"""What lies at a path, what is wrong with it, and the one command that converts it.

A diagnosis opens the path as `convert` does, with the options that its own refusals name, until one way works. Nothing
is guessed that `convert` would not take: where readings of a time or a decimal sign remain, they are told, and no
command is given.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmfbench.conversion.summary import describe_source, recording_lines
from fmfbench.conversion.ways import READ_BYTES, open_through, ways
from fmfbench.errors import FmfbenchError, SourceError
from fmfbench.sources.kinds import FileKind, identify
from fmfbench.sources.layout import VIDEO_SUFFIXES
from fmfbench.sources.matlab.mat import open_mat
from fmfbench.sources.matrecording import LabelVariable
from fmfbench.sources.source import Options, Source, SourceRecording, binary_blocks
from fmfbench.sources.table.currents import TABLE_SUFFIXES

__all__ = ["Diagnosis", "FileReport", "diagnose"]

_MOST_FILES = 2000
_DEPTH = 4
_SHOWN = 25


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
    for place, options in ways(path, kinds, out.problems):
        source = open_through(place, options, [])
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


def _facts(source: Source) -> list[dict[str, Any]]:
    facts: list[dict[str, Any]] = describe_source(source)["recordings"]
    small = sum(p.stat().st_size for p in source.files) <= READ_BYTES
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
