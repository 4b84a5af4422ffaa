"""Which of the four layouts a path has. Detected from what lies there, never guessed."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from fmfbench.errors import SourceError
from fmfbench.sources.matlab.mat import open_mat
from fmfbench.sources.source import Options, Source, SourceRecording
from fmfbench.sources.v1 import NAMES, read_v1
from fmfbench.sources.v2 import find_v2_tree, read_v2_file, read_v2_tree
from fmfbench.sources.video.reader import VIDEO_SUFFIXES

__all__ = ["LAYOUTS", "VIDEO_SUFFIXES", "open_source", "recordings_at"]

LAYOUTS = ("v1", "v2", "recording")
_MAPPED = {
    "v1": set(NAMES),
    "v2": {"data", "video", "label", "time", "a", "b", "c"},
    "recording": {"time", "a", "b", "c", "current", "video"},
}


def open_source(path: str | Path, options: Options | None = None) -> Source:
    """Read everything about a source but its frames.

    Args:
        path: a `.mat` file, a folder of V1 files, a V2 tree or its parent, a raw video, or a folder of them.
        options: layout, names and rates to take over what the source says.

    Raises:
        SourceError: nothing there, an unknown or ambiguous layout, or contents that do not fit it.
    """
    options = options or Options()
    source = _open(Path(path), options)
    strange = sorted(set(options.names) - _MAPPED[source.layout])
    if strange:
        raise SourceError(
            f"{path}: --map names {', '.join(strange)}, which layout {source.layout} does not read; "
            f"it reads {', '.join(sorted(_MAPPED[source.layout])) or 'no variables'}"
        )
    if source.layout != "recording" and (options.crop is not None or options.size is not None):
        raise SourceError(
            f"{path}: a crop or a size is for raw recordings, found layout {source.layout}, whose frames are "
            "taken as they are; leave --crop and --size out"
        )
    return source


def recordings_at(path: Path) -> str | None:
    """'a recording' or 'a folder of recordings' where names say that one lies at `path`; nothing is opened."""
    suffixes = (".mat", *VIDEO_SUFFIXES)
    if not path.is_dir():
        return "a recording" if path.is_file() and path.suffix.lower() in suffixes else None
    trees = (path / "videos", *(p / "videos" for p in path.iterdir()))
    there = any(p.is_dir() for p in trees) or any(p.suffix.lower() in suffixes for p in path.iterdir())
    return "a folder of recordings" if there else None


def _open(path: Path, options: Options) -> Source:
    if options.layout not in (None, *LAYOUTS):
        raise SourceError(f"layout {options.layout!r} is not one of {', '.join(LAYOUTS)}")
    if not path.exists():
        raise SourceError(f"{path}: no such file or folder")
    if path.is_dir():
        return _open_folder(path, options)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return _raw(path, [path], options)
    layout = options.layout or _layout_of_file(path, options)
    if layout == "recording":
        raise SourceError(
            f"{path}: layout recording expects a video ({', '.join(VIDEO_SUFFIXES)}), got {path.suffix!r}"
        )
    read = read_v1 if layout == "v1" else read_v2_file
    return Source(path=path, layout=layout, recordings=(read(path, options),), files=(path,))


def _open_folder(path: Path, options: Options) -> Source:
    tree = find_v2_tree(path)
    mats = sorted(p for p in path.iterdir() if _visible(p) and p.suffix.lower() == ".mat")
    raws = sorted(p for p in path.iterdir() if _visible(p) and p.suffix.lower() in VIDEO_SUFFIXES)
    found = {"v2": bool(tree), "v1": bool(mats), "recording": bool(raws)}
    wanted = options.layout
    if wanted is None:
        there = [name for name, is_there in found.items() if is_there]
        if len(there) != 1:
            what = (
                f"several layouts ({', '.join(there)}): say which with --layout"
                if there
                else "none of them: " + _listing(path)
            )
            raise SourceError(
                f"{path}: expected a V2 tree (videos/, currents/, timestamps/, train.json, test.json), V1 .mat "
                f"files or raw recordings, got {what}"
            )
        wanted = there[0]
    elif not found[wanted]:
        raise SourceError(f"{path}: found nothing of layout {wanted}: {_listing(path)}")
    if wanted == "v2" and tree is not None:
        recordings, files = read_v2_tree(tree, options)
        return Source(path=path, layout="v2", recordings=recordings, files=files)
    if wanted == "recording":
        return _raw(path, raws, options)
    return _v1_folder(path, mats, options)


def _v1_folder(path: Path, mats: list[Path], options: Options) -> Source:
    recordings: list[SourceRecording] = []
    for mat in mats:
        if options.layout is None and _layout_of_file(mat, options) != "v1":
            raise SourceError(
                f"{mat}: a folder of .mat files expects V1 files ({', '.join(NAMES)}), got a V2 file without "
                "its tree; give the tree, or one V2 file on its own"
            )
        recordings.append(read_v1(mat, options))
    recordings.sort(key=lambda r: r.name)
    for a, b in pairwise(recordings):
        if a.name == b.name:
            raise SourceError(f"{path}: two files are called {a.name!r}; a recording needs a name of its own")
    return Source(path=path, layout="v1", recordings=tuple(recordings), files=tuple(mats))


def _layout_of_file(path: Path, options: Options) -> str:
    with open_mat(path) as mat:
        names = set(mat.variables)
        v1 = {n for n in NAMES if options.name(n) in names}
        v2 = {"data", options.name("data")} & names
        alike = _alike(names)
        found = mat.describe()
    is_v1 = bool(v1 - {"label"})
    if is_v1 and v2:
        raise SourceError(
            f"{path}: expected the variables of layout v1 ({', '.join(NAMES)}) or v2 (data, label), "
            f"got both: {found}; say which with --layout"
        )
    if not is_v1 and not v2:
        raise SourceError(
            f"{path}: expected the variables of layout v1 ({', '.join(NAMES)}) or v2 (data, label), "
            f"got {found}; name them with --map{alike}"
        )
    return "v1" if is_v1 else "v2"


def _alike(names: set[str]) -> str:
    for ours in (*NAMES, "data"):
        for theirs in sorted(names):
            if ours != theirs and ours == theirs.lower():
                return f" {ours}={theirs}"
    return ", for example --map video=Video"


def _raw(path: Path, videos: list[Path], options: Options) -> Source:
    from fmfbench.sources.recording import read_recording

    if options.layout not in (None, "recording"):
        raise SourceError(f"{path}: layout {options.layout} expects .mat files, got a raw video")
    names = [video.stem for video in videos]
    for video in videos:
        if names.count(video.stem) > 1:
            same = ", ".join(v.name for v in videos if v.stem == video.stem)
            raise SourceError(
                f"{path}: expected one video a recording, got {same}, which would all be called {video.stem!r}; "
                "rename or move what is not wanted"
            )
    pairs = [read_recording(video, replace(options, layout="recording")) for video in videos]
    recordings = tuple(sorted((r for r, _ in pairs), key=lambda r: r.name))
    return Source(
        path=path,
        layout="recording",
        recordings=recordings,
        files=tuple(f for _, files in pairs for f in files),
    )


def _visible(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".")


def _listing(path: Path) -> str:
    names = sorted(p.name + ("/" if p.is_dir() else "") for p in path.iterdir())
    return ", ".join(names[:8]) + (" ..." if len(names) > 8 else "") if names else "an empty folder"
