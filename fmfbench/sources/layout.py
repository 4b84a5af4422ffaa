"""Which of the layouts a path has. Detected from what lies there, never guessed.

A layout is registered once, in `REGISTERED`: whether a path looks like it, and how it is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from fmfbench.errors import SourceError
from fmfbench.files.leavings import without_leavings
from fmfbench.sources.kinds import identify
from fmfbench.sources.matlab.mat import open_mat
from fmfbench.sources.source import Options, Source, SourceRecording
from fmfbench.sources.v1 import NAMES, read_v1
from fmfbench.sources.v2 import find_v2_tree, read_v2_file, read_v2_tree
from fmfbench.sources.video.reader import VIDEO_SUFFIXES

__all__ = ["LAYOUTS", "REGISTERED", "VIDEO_SUFFIXES", "Layout", "open_source", "recordings_at"]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One form that recordings come in.

    Attributes:
        name: as `--layout` takes it.
        guess_can_open: whether a file or folder looks like this layout; nothing but names and variables is read.
        open: reads everything but the frames.
        mapped: what `--map` may name.
        sized: whether `--crop` and `--size` are for it.
    """

    name: str
    guess_can_open: Callable[[Path, Options], bool]
    open: Callable[[Path, Options], Source]
    mapped: frozenset[str]
    sized: bool = False


def open_source(path: str | Path, options: Options | None = None) -> Source:
    """Read everything about a source but its frames.

    Args:
        path: a `.mat` file, a folder of V1 files, a V2 tree or its parent, a raw video, or a folder of them.
        options: layout, names and rates to take over what the source says.

    Raises:
        SourceError: nothing there, an unknown or ambiguous layout, or contents that do not fit it.
    """
    options = options or Options()
    layout = _choose(Path(path), options)
    strange = sorted(set(options.names) - layout.mapped)
    if strange:
        raise SourceError(
            f"{path}: expected --map to name variables of layout {layout.name} "
            f"({', '.join(sorted(layout.mapped)) or 'it has none'}), got {', '.join(strange)}"
        )
    if not layout.sized and (options.crop is not None or options.size is not None):
        raise SourceError(
            f"{path}: expected a raw recording to crop or resize, got layout {layout.name}, whose frames are "
            "taken as they are; leave --crop and --size out"
        )
    source = layout.open(Path(path), options)
    missing = sorted(set(options.only) - {r.name for r in source.recordings})
    if missing:
        raise SourceError(
            f"{path}: expected a recording {missing[0]!r} (--only), got "
            f"{', '.join(r.name for r in source.recordings) or 'none of those named'}"
        )
    return source


def recordings_at(path: Path) -> str | None:
    """'a recording' or 'a folder of recordings' where names say that one lies at `path`; nothing is opened."""
    suffixes = (".mat", *VIDEO_SUFFIXES)
    if not path.is_dir():
        return "a recording" if path.is_file() and path.suffix.lower() in suffixes else None
    entries = without_leavings(path.iterdir())
    trees = (path / "videos", *(p / "videos" for p in entries))
    there = any(p.is_dir() for p in trees) or any(p.suffix.lower() in suffixes for p in entries)
    return "a folder of recordings" if there else None


def _choose(path: Path, options: Options) -> Layout:
    """The layout that the user names, or the only one that can open the path."""
    if options.layout not in (None, *LAYOUTS):
        raise SourceError(f"layout: expected one of {', '.join(LAYOUTS)}, got {options.layout!r}")
    if not path.exists():
        raise SourceError(f"{path}: no such file or folder")
    can = [layout for layout in REGISTERED if layout.guess_can_open(path, options)]
    if options.layout is not None:
        return _named(path, options.layout, can)
    if len(can) == 1:
        return can[0]
    if not path.is_dir():
        raise SourceError(f"{path}: {_what_file(path, options, len(can) > 1)}")
    names = ", ".join(layout.name for layout in can)
    what = f"several layouts ({names}): say which with --layout" if can else "none of them: " + _listing(path)
    raise SourceError(
        f"{path}: expected a V2 tree (videos/, currents/, timestamps/, train.json, test.json), V1 .mat "
        f"files or raw recordings, got {what}"
    )


def _named(path: Path, name: str, can: list[Layout]) -> Layout:
    layout = next(layout for layout in REGISTERED if layout.name == name)
    is_video = path.suffix.lower() in VIDEO_SUFFIXES
    if path.is_dir() and layout not in can:
        raise SourceError(f"{path}: expected a source of layout {name}, got {_listing(path)}")
    if path.is_file() and is_video and name != "recording":
        raise SourceError(f"{path}: layout {name} expects .mat files, got a raw video")
    if path.is_file() and not is_video and name == "recording":
        raise SourceError(
            f"{path}: layout recording expects a video ({', '.join(VIDEO_SUFFIXES)}), got {path.suffix!r}"
        )
    return layout


def _what_file(path: Path, options: Options, both: bool) -> str:
    kind = identify(path)
    if not kind.name.startswith(("MAT", "HDF5")):
        expected = "a recording: a .mat file or a video"
        if kind.name == "video":
            return f"expected a video named {', '.join(VIDEO_SUFFIXES)}, got one named {path.suffix!r}; rename it"
        if kind.name == "table":
            return f"{kind.sentence(expected)}: give the video beside it"
        return kind.sentence(expected)
    with open_mat(path) as mat:
        alike, found = _alike(set(mat.variables)), mat.describe()
    asked = f"expected the variables of layout v1 ({', '.join(NAMES)}) or v2 (data, label), "
    if both:
        return f"{asked}got both: {found}; say which with --layout"
    return f"{asked}got {found}; name them with --map{alike}"


def _mat_names(path: Path) -> set[str]:
    with open_mat(path) as mat:
        return set(mat.variables)


def _is_v1(path: Path, options: Options) -> bool:
    if path.is_dir():
        return any(_files(path, (".mat",)))
    if path.suffix.lower() in VIDEO_SUFFIXES or not _may_be_mat(path):
        return False
    names = _mat_names(path)
    return any(options.name(n) in names for n in NAMES if n != "label")


def _is_v2(path: Path, options: Options) -> bool:
    if path.is_dir():
        return find_v2_tree(path) is not None
    if path.suffix.lower() in VIDEO_SUFFIXES or not _may_be_mat(path):
        return False
    names = _mat_names(path)
    if all(
        options.name(n) in names for n in NAMES
    ):  # whole as V1: an extra variable called data says nothing
        return False
    return bool({"data", options.name("data")} & names)


def _is_recording(path: Path, options: Options) -> bool:
    if path.is_dir():
        return any(_files(path, VIDEO_SUFFIXES))
    return path.suffix.lower() in VIDEO_SUFFIXES


def _may_be_mat(path: Path) -> bool:
    """Whether to open it as a MAT file; one that is named so is, so that its own faults are told."""
    return path.suffix.lower() == ".mat" or identify(path).name.startswith(("MAT", "HDF5"))


def _open_v1(path: Path, options: Options) -> Source:
    if path.is_file():
        _refuse_others([path], options, path)
        return Source(path=path, layout="v1", recordings=(read_v1(path, options),), files=(path,))
    return _v1_folder(path, _chosen(_files(path, (".mat",)), options), options)


def _open_v2(path: Path, options: Options) -> Source:
    if path.is_file():
        _refuse_others([path], options, path)
        return Source(path=path, layout="v2", recordings=(read_v2_file(path, options),), files=(path,))
    tree = find_v2_tree(path)
    assert tree is not None
    recordings, files = read_v2_tree(tree, options)
    return Source(path=path, layout="v2", recordings=recordings, files=files)


def _open_recordings(path: Path, options: Options) -> Source:
    if path.is_file():
        _refuse_others([path], options, path)
        return _raw(path, [path], options)
    videos = list(_files(path, VIDEO_SUFFIXES))
    return _raw(path, videos, options)


def _refuse_others(files: list[Path], options: Options, path: Path) -> None:
    strange = sorted(set(options.only) - {p.stem for p in files})
    if strange:
        raise SourceError(f"{path}: expected a recording {strange[0]!r} (--only), got {files[0].stem}")


def _chosen(files: Iterable[Path], options: Options) -> list[Path]:
    return [p for p in files if not options.only or p.stem in options.only]


def _files(path: Path, suffixes: tuple[str, ...]) -> Iterable[Path]:
    return (p for p in sorted(path.iterdir()) if _visible(p) and p.suffix.lower() in suffixes)


def _v1_folder(path: Path, mats: list[Path], options: Options) -> Source:
    recordings: list[SourceRecording] = []
    for mat in mats:
        if options.layout is None and not _is_v1(mat, options):
            if not _is_v2(mat, options):
                raise SourceError(f"{mat}: {_what_file(mat, options, both=False)}")
            raise SourceError(
                f"{mat}: a folder of .mat files expects V1 files ({', '.join(NAMES)}), got a V2 file without "
                "its tree; give the tree, or one V2 file on its own"
            )
        recordings.append(read_v1(mat, options))
    recordings.sort(key=lambda r: r.name)
    for a, b in pairwise(recordings):
        if a.name == b.name:
            raise SourceError(
                f"{path}: expected a name of its own for each recording, got two files called {a.name!r}"
            )
    return Source(path=path, layout="v1", recordings=tuple(recordings), files=tuple(mats))


def _alike(names: set[str]) -> str:
    for ours in (*NAMES, "data"):
        for theirs in sorted(names):
            if ours != theirs and ours == theirs.lower():
                return f" {ours}={theirs}"
    return ", for example --map video=Video"


def _raw(path: Path, videos: list[Path], options: Options) -> Source:
    from fmfbench.sources.recording import read_recording

    names = [video.stem for video in videos]
    for video in videos:
        if names.count(video.stem) > 1:
            same = ", ".join(v.name for v in videos if v.stem == video.stem)
            raise SourceError(
                f"{path}: expected one video a recording, got {same}, which would all be called {video.stem!r}; "
                "rename or move the others"
            )
    chosen = _chosen(videos, options)
    pairs = [read_recording(video, replace(options, layout="recording")) for video in chosen]
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
    names = sorted(p.name + ("/" if p.is_dir() else "") for p in without_leavings(path.iterdir()))
    return ", ".join(names[:8]) + (" ..." if len(names) > 8 else "") if names else "an empty folder"


REGISTERED = (
    Layout(name="v1", guess_can_open=_is_v1, open=_open_v1, mapped=frozenset(NAMES)),
    Layout(
        name="v2",
        guess_can_open=_is_v2,
        open=_open_v2,
        mapped=frozenset({"data", "video", "label", "time", "a", "b", "c"}),
    ),
    Layout(
        name="recording",
        guess_can_open=_is_recording,
        open=_open_recordings,
        mapped=frozenset({"time", "a", "b", "c", "current", "video"}),
        sized=True,
    ),
)
LAYOUTS = tuple(layout.name for layout in REGISTERED)
