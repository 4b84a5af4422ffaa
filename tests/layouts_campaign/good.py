"""Layouts that are good: they convert as they are, or by the command that the doctor gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from . import mats, tables, videos
from .case import Layout, Recording

STEMS = ["run7", "run 7", "2023-05-10_furnace", "ofen.3", "a-b_c", "RUN1"]


def raw(
    rng: np.random.Generator, folder: Path, stem: str, times_as: str | None = None, *, program: bool = False
) -> tuple[Recording, tables.Drawn]:
    """A video with its table."""
    video = videos.draw(rng, folder, stem, program=program)
    drawn, texts = tables.draw(rng, video.seconds, times_as)
    tables.write(rng, folder, stem, drawn, texts)
    return joined(video, drawn), drawn


def joined(video: videos.Video, drawn: tables.Drawn) -> Recording:
    return Recording(
        frames=video.frames,
        frame_time=drawn.start + video.times,
        current=drawn.amps,
        current_time=drawn.times,
        lossy=video.lossy,
        slack=video.slack,
        split=np.full(len(video.frames), 2, np.uint8),
    )


def good_raw(rng: np.random.Generator, folder: Path) -> Layout:
    stem = STEMS[rng.integers(len(STEMS))]
    recording, drawn = raw(rng, folder, stem, program=True)
    video = next(p.name for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
    # FFmpeg gives one stamp to several pictures of a program stream, where they shared a packet.
    shared = Path(video).suffix.lower() == ".mpg"
    place = video if rng.random() < 0.7 else "."
    return Layout(
        name=f"raw, {drawn.times_as}, {drawn.suffix} with {Path(video).suffix}",
        place=place,
        recordings={stem: recording},
        as_it_is=not drawn.option and not shared,
        either=shared,
        command=drawn.option,
    )


SUFFIXES = {form[0] for form in videos.FORMS}


def good_folder(rng: np.random.Generator, folder: Path) -> Layout:
    """Several recordings beside files that are none of them."""
    (folder / "in").mkdir()
    forms = [*tables.FORMS, *tables.NUMBERS, "seconds", "time of day"]
    recordings = {
        f"run{i}": raw(rng, folder / "in", f"run{i}", forms[rng.integers(len(forms))])[0] for i in range(2)
    }
    (folder / "in" / "readme.md").write_text("Two runs of furnace 3.\n")
    return Layout(name="a folder of raw recordings", place="in", recordings=recordings, as_it_is=True)


def good_by_octave(rng: np.random.Generator, folder: Path) -> Layout:
    """Seconds and amperes without a header, by Octave."""
    if not mats.OCTAVE:
        return good_raw(rng, folder)
    video = videos.draw(rng, folder, "run7")
    drawn, _ = tables.draw(rng, video.seconds, "seconds")
    tables.by_octave(folder / "run7.csv", drawn)
    return Layout(
        name="raw, dlmwrite of Octave",
        place=f"run7{video.suffix}",
        recordings={"run7": joined(video, drawn)},
        as_it_is=True,
    )


def good_v1(rng: np.random.Generator, folder: Path) -> Layout:
    recording, names = mats.v1(rng, folder, "run7")
    return Layout(
        name="V1", place="run7.mat", recordings={"run7": recording}, as_it_is=not names,
        command=f"--map video={names['video']}" if names else "",
    )  # fmt: skip


def good_v1_folder(rng: np.random.Generator, folder: Path) -> Layout:
    (folder / "in").mkdir()
    recordings = {}
    for name in ("b", "a"):
        while True:
            recordings[name], names = mats.v1(rng, folder / "in", name)
            if not names:
                break
    return Layout(name="a folder of V1", place="in", recordings=recordings, as_it_is=True)


def good_v2(rng: np.random.Generator, folder: Path) -> Layout:
    names = ["SaveToAvi-1", "b"][: int(rng.integers(1, 3))]
    recordings = mats.tree(rng, folder / "pixel-level", names)
    return Layout(
        name="V2 tree", place=["pixel-level", "."][rng.integers(2)], recordings=recordings, as_it_is=True
    )


def good_v2_file(rng: np.random.Generator, folder: Path) -> Layout:
    renamed = rng.random() < 0.4
    recording = mats.v2_file(rng, folder / "run7.mat", name="Data" if renamed else "data")
    return Layout(
        name="V2 file", place="run7.mat", recordings={"run7": recording}, as_it_is=not renamed,
        command="--map data=Data" if renamed else "",
    )  # fmt: skip


GOOD = [good_raw] * 11 + [
    good_folder,
    good_by_octave,
    good_v1,
    good_v1,
    good_v1,
    good_v1_folder,
    good_v2,
    good_v2,
    good_v2_file,
]
