"""Layouts that are bad, each with the words that must name what is wrong, chosen before any was tried."""

# ruff: noqa: E501 - a case a line
from __future__ import annotations

import json
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import h5py
import numpy as np
import openpyxl
import pandas as pd
import scipy.io
import scipy.sparse

from . import mats, tables, videos
from .case import NS, Layout, Recording
from .good import joined

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 48211\n".format("0" * 64)
PAGE = "<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>\n"
Maker = Callable[[np.random.Generator, Path], Any]


def table_of(
    video: videos.Video, rng: np.random.Generator, start: str = "2023-05-17 21:33:26"
) -> pd.DataFrame:
    """Two rows a second of a whole, plain table."""
    count = max(8, int(video.seconds * 2) + 1)
    times = pd.Timestamp(start) + pd.to_timedelta(np.arange(count) * 500, "ms")
    frame = pd.DataFrame(np.round(rng.normal(7000, 300, (count, 3)), 2), columns=["a", "b", "c"])
    frame.insert(0, "time", times.strftime("%Y-%m-%d %H:%M:%S.%f").str[:-3])
    return frame


def good_pair(rng: np.random.Generator, folder: Path, stem: str, form: int | None = None) -> Recording:
    video = videos.draw(rng, folder, stem, form)
    drawn, texts = tables.draw(rng, video.seconds, "iso")
    rows = "".join(f"{t},{a:.0f},{b:.0f},{c:.0f}\n" for t, (a, b, c) in zip(texts, drawn.amps, strict=True))
    (folder / f"{stem}.csv").write_text(f"time,a,b,c\n{rows}")
    return joined(video, drawn)


# Videos that are none, beside a good table.


def not_a_video(suffix: str, content: str | bytes) -> Maker:
    def make(rng: np.random.Generator, folder: Path) -> str:
        data = content.encode() if isinstance(content, str) else content
        (folder / f"run7{suffix}").write_bytes(data)
        (folder / "run7.csv").write_text(
            "seconds,a,b,c\n" + "".join(f"{i / 2},7000,7100,7200\n" for i in range(20))
        )
        return f"run7{suffix}"

    return make


def sound(rng: np.random.Generator, folder: Path) -> str:
    place = not_a_video(".mp4", b"")(rng, folder)
    with wave.open(str(folder / place), "wb") as file:
        file.setparams((1, 2, 8000, 8000, "NONE", ""))
        file.writeframes(rng.integers(-99, 99, 8000, dtype=np.int16).tobytes())
    return str(place)


def cut(form: int, share: float) -> Maker:
    def make(rng: np.random.Generator, folder: Path) -> str:
        good_pair(rng, folder, "run7", form)
        path = next(p for p in folder.iterdir() if p.suffix != ".csv")
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
        return path.name

    return make


def form_of(suffix: str, codec: str) -> int:
    return next(i for i, f in enumerate(videos.FORMS) if f[:2] == (suffix, codec))


def two_of_one_name(rng: np.random.Generator, folder: Path) -> str:
    (folder / "in").mkdir()
    good_pair(rng, folder / "in", "run7", form_of(".mov", "qtrle"))
    videos.draw(rng, folder / "in", "run7", form_of(".avi", "ffv1"))
    return "in"


def two_streams(rng: np.random.Generator, folder: Path) -> str:
    with av.open(str(folder / "run7.mkv"), "w") as container:
        streams = [container.add_stream("ffv1", rate=25) for _ in range(2)]
        for k, stream in enumerate(streams):
            stream.width, stream.height, stream.pix_fmt = 48 + 16 * k, 32, "bgr0"
        for k, stream in enumerate(streams):
            for image in videos.pictures(rng, 50, 48 + 16 * k, 32):
                container.mux(
                    stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="bgr0"))
                )
            container.mux(stream.encode())
    (folder / "run7.csv").write_text(
        "seconds,a,b,c\n" + "".join(f"{i / 2},7000,7100,7200\n" for i in range(4))
    )
    return "run7.mkv"


def no_table(rng: np.random.Generator, folder: Path) -> str:
    return f"run7{videos.draw(rng, folder, 'run7').suffix}"


def two_tables(rng: np.random.Generator, folder: Path) -> str:
    good_pair(rng, folder, "run7", form_of(".mp4", "libx264"))
    path = next(p for p in folder.iterdir() if p.suffix != ".csv")
    (folder / "run7.txt").write_bytes((folder / "run7.csv").read_bytes())
    return path.name


def link_to_nowhere(rng: np.random.Generator, folder: Path) -> str:
    place = not_a_video(".mkv", b"")(rng, folder)
    (folder / place).unlink()
    (folder / place).symlink_to("../disk2/run7.mkv")
    return str(place)


# Tables that are bad, beside a good video.


def bad_table(
    change: Callable[[pd.DataFrame, np.random.Generator], str | bytes], suffix: str = ".csv"
) -> Maker:
    def make(rng: np.random.Generator, folder: Path) -> str:
        video = videos.draw(rng, folder, "run7")
        made = change(table_of(video, rng), rng)
        (folder / f"run7{suffix}").write_bytes(made.encode() if isinstance(made, str) else made)
        return f"run7{video.suffix}"

    return make


def retimed(form: str, start: str = "2023-05-07 21:33:26", step_ms: int = 500) -> Callable[..., str]:
    def change(frame: pd.DataFrame, rng: np.random.Generator) -> str:
        when = pd.Timestamp(start) + pd.to_timedelta(np.arange(len(frame)) * step_ms, "ms")
        return str(frame.assign(time=when.strftime(form)).to_csv(index=False))

    return change


def with_cell(row: int, column: int, text: str) -> Callable[..., str]:
    def change(frame: pd.DataFrame, rng: np.random.Generator) -> str:
        lines = str(frame.to_csv(index=False)).splitlines()
        cells = lines[row].split(",")
        cells[column] = text
        lines[row] = ",".join(cells)
        return "\n".join(lines) + "\n"

    return change


def backwards(frame: pd.DataFrame, rng: np.random.Generator) -> str:
    order = np.arange(len(frame))
    order[3], order[4] = order[4], order[3]
    return str(frame.iloc[order].to_csv(index=False))


def scientific(frame: pd.DataFrame, rng: np.random.Generator) -> str:
    values = pd.to_datetime(frame["time"]).astype("int64") / NS
    return str(frame.assign(time=[f"{v:.5E}" for v in values]).to_csv(index=False))


def nameless(frame: pd.DataFrame, rng: np.random.Generator) -> str:
    return str(
        frame.assign(d=1.5, e=2.5, f=9.0)
        .set_axis(["time", "x", "y7", "zeta", "foo", "bar", "baz"], axis=1)
        .to_csv(index=False)
    )


def two_times(frame: pd.DataFrame, rng: np.random.Generator) -> str:
    frame.insert(1, "received", [t.replace("21:", "22:") for t in frame["time"]])
    return str(frame.to_csv(index=False))


def mixed_zones(frame: pd.DataFrame, rng: np.random.Generator) -> str:
    return str(
        frame.assign(time=[t + ("Z" if i % 2 else "") for i, t in enumerate(frame["time"])]).to_csv(
            index=False
        )
    )


def two_signs(frame: pd.DataFrame, rng: np.random.Generator) -> str:
    text = str(frame.to_csv(index=False, sep=";"))
    lines = text.splitlines()
    lines[3] = lines[3].replace(";", "#", 1).replace(".", ",").replace("#", ";", 1)
    lines[3] = lines[1].split(";")[0][:-1] + "9;7000,25;7001,5;7002,75"
    return "\n".join(lines) + "\n"


def workbook(sheets: int, cut_to: float = 1.0) -> Callable[..., bytes]:
    def change(frame: pd.DataFrame, rng: np.random.Generator) -> bytes:
        import io

        book = openpyxl.Workbook()
        for k in range(sheets):
            sheet = book.active if k == 0 else book.create_sheet(f"sheet {k + 1}")
            assert sheet is not None
            sheet.append(list(frame.columns))
            for row in frame.itertuples(index=False):
                sheet.append(list(row))
        out = io.BytesIO()
        book.save(out)
        return out.getvalue()[: int(len(out.getvalue()) * cut_to)]

    return change


# MAT files that are bad.


def whole_v1(rng: np.random.Generator) -> dict[str, Any]:
    n, height, width = 30, 20, 28
    return {
        "video": rng.integers(0, 256, (height, width, 3, n), np.uint8), "current": rng.normal(7000, 10, (3, n)),
        "label": np.zeros((height, width, n), np.uint8), "train_test_index": (np.arange(n) > 20).astype(np.uint8)[None],
    }  # fmt: skip


def bad_mat(**change: Any) -> Maker:
    def make(rng: np.random.Generator, folder: Path) -> str:
        content = whole_v1(rng)
        for name, value in change.items():
            made = value(content) if callable(value) else value
            if made is None:
                del content[name]
            else:
                content[name] = made
        scipy.io.savemat(folder / "run7.mat", content, do_compression=bool(rng.integers(2)))
        return "run7.mat"

    return make


def cells(content: dict[str, Any]) -> np.ndarray:
    out = np.empty((1, content["video"].shape[3]), object)
    for i in range(out.size):
        out[0, i] = content["video"][..., i]
    return out


def mat_of(content: str | bytes) -> Maker:
    def make(rng: np.random.Generator, folder: Path) -> str:
        (folder / "run7.mat").write_bytes(content.encode() if isinstance(content, str) else content)
        return "run7.mat"

    return make


def cut_mat(writer: str, share: float) -> Maker:
    def make(rng: np.random.Generator, folder: Path) -> str:
        mats.save(rng, folder / "run7.mat", whole_v1(rng), writer)
        data = (folder / "run7.mat").read_bytes()
        (folder / "run7.mat").write_bytes(data[: int(len(data) * share)])
        return "run7.mat"

    return make


def hdf5(change: Callable[[h5py.File], None]) -> Maker:
    def make(rng: np.random.Generator, folder: Path) -> str:
        mats.save(rng, folder / "run7.mat", whole_v1(rng), "h5py")
        with h5py.File(folder / "run7.mat", "r+") as file:
            change(file)
        return "run7.mat"

    return make


def soft_link(file: h5py.File) -> None:
    del file["video"]
    file["video"] = h5py.SoftLink("/archive/video")


def external_link(file: h5py.File) -> None:
    del file["label"]
    file["label"] = h5py.ExternalLink("labels_2023.mat", "/label")


def blosc(file: h5py.File) -> None:
    """As a writer with the plug-in leaves it: the chunk's bytes say nothing without it."""
    shape = file["video"].shape
    del file["video"]
    space, properties = h5py.h5s.create_simple(shape), h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk(shape)
    properties.set_filter(32001, h5py.h5z.FLAG_OPTIONAL, (2, 2, 1))
    data = h5py.Dataset(h5py.h5d.create(file.id, b"video", h5py.h5t.NATIVE_UINT8, space, properties))
    data.id.write_direct_chunk((0,) * len(shape), b"\x02\x01" * 900, 0)


def unwritten(file: h5py.File) -> None:
    shape = file["video"].shape
    del file["video"]
    file.create_dataset("video", shape, "u1", chunks=(5, *shape[1:]))[:10] = 7


def version_4(rng: np.random.Generator, folder: Path) -> str:
    scipy.io.savemat(
        folder / "run7.mat", {"video": np.ones((20, 30)), "current": np.ones((3, 5))}, format="4"
    )
    return "run7.mat"


def octave_file(option: str) -> Maker:
    def make(rng: np.random.Generator, folder: Path) -> str:
        if mats.OCTAVE:
            mats.by_octave(
                f"video = uint8(ones(4,6,3,5)); current = ones(3,5); save('{option}', '{folder / 'run7.mat'}', 'video', 'current');"
            )
        else:
            (folder / "run7.mat").write_text(
                "# Created by Octave 7.3.0\n# name: video\n# type: uint8 matrix\n"
            )
        return "run7.mat"

    return make


# V2 trees that are bad.


def bad_tree(change: Callable[[Path], None], form: str = "%Y-%m-%d %H:%M:%S") -> Maker:
    def make(rng: np.random.Generator, folder: Path) -> str:
        mats.tree(rng, folder / "tree", ["run7"], form)
        change(folder / "tree")
        return "tree"

    return make


def edit(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        content = json.loads((root / name).read_text())
        (root / name).write_text(json.dumps(change(content)))

    return make


def write(name: str, content: str) -> Callable[[Path], None]:
    return lambda root: (root / name).write_text(content) and None


def drop_rows(name: str, count: int) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        lines = (root / name).read_text().splitlines()
        (root / name).write_text("\n".join(lines[count:] if count > 0 else lines[:count]) + "\n")

    return change


def another_day(root: Path) -> None:
    table = pd.read_csv(root / "currents" / "run7.csv")
    moved = pd.to_datetime(table["time"]) + pd.Timedelta("3D")
    table.assign(time=moved.dt.strftime("%Y-%m-%d %H:%M:%S")).to_csv(
        root / "currents" / "run7.csv", index=False
    )


def without_dates(root: Path) -> None:
    table = pd.read_csv(root / "currents" / "run7.csv")
    table.assign(time=pd.to_datetime(table["time"]).dt.strftime("%H:%M:%S")).to_csv(
        root / "currents" / "run7.csv", index=False
    )


def partial_tree(rng: np.random.Generator, folder: Path) -> Layout:
    recordings = mats.tree(rng, folder / "tree", ["run7", "run8"])
    (folder / "tree" / "videos" / "run8.mat").unlink()
    return Layout(
        name="", place="tree", recordings={"run7": recordings["run7"]}, words=(r"run8\.mat", "not downloaded|missing"),
        command="--only run7",
    )  # fmt: skip


def pointer_in_tree(rng: np.random.Generator, folder: Path) -> Layout:
    recordings = mats.tree(rng, folder / "tree", ["run7", "run8"])
    (folder / "tree" / "videos" / "run8.mat").write_text(LFS)
    return Layout(
        name="", place="tree", recordings={"run7": recordings["run7"]}, words=("Git LFS pointer", "git lfs pull"),
        command="--only run7",
    )  # fmt: skip


def mixed_folder(rng: np.random.Generator, folder: Path) -> Layout:
    (folder / "in").mkdir()
    recordings = {"good": good_pair(rng, folder / "in", "good")}
    videos.draw(rng, folder / "in", "alone")
    (folder / "in" / "page.mat").write_text(PAGE)
    return Layout(
        name="", place="in", recordings=recordings, words=(r"alone\.csv", "web page"), command="--only good",
    )  # fmt: skip


def cut_but_kept(suffix: str, codec: str, share: float) -> Maker:
    def make(rng: np.random.Generator, folder: Path) -> Layout:
        place = cut(form_of(suffix, codec), share)(rng, folder)
        return Layout(
            name="", place=place, words=("truncated or damaged", "% missing|cannot|lost|beyond"), command="--allow-damaged",
            counted=("run7",),
        )  # fmt: skip

    return make


def hole(rng: np.random.Generator, folder: Path) -> Layout:
    """A transport stream of which a part was never received."""
    good_pair(rng, folder, "run7", form_of(".ts", "libx264"))
    path = next(p for p in folder.iterdir() if p.suffix != ".csv")
    data = path.read_bytes()
    third = len(data) // 188 // 3 * 188
    path.write_bytes(data[:third] + data[third + 188 * 15 :])
    return Layout(
        name="",
        place=path.name,
        words=("damaged", "missing|guess"),
        command="--allow-damaged",
        counted=("run7",),
    )


BAD: dict[str, tuple[Maker, tuple[str, ...]]] = {
    "video is a pointer": (not_a_video(".mp4", LFS), ("Git LFS pointer", "git lfs pull")),
    "video is a web page": (not_a_video(".mkv", PAGE), ("web page",)),
    "video is empty": (not_a_video(".avi", b""), ("empty",)),
    "video is a zip": (not_a_video(".mp4", b"PK\3\4" + b"\1" * 400), ("zip",)),
    "video is a gzip": (not_a_video(".mkv", b"\x1f\x8b\x08" + b"\1" * 400), ("gzip",)),
    "video is a picture": (not_a_video(".avi", b"\x89PNG\r\n\x1a\n" + b"\1" * 400), ("picture",)),
    "video is zeros": (not_a_video(".mp4", b"\0" * 9000), ("zeros",)),
    "video is noise": (not_a_video(".mov", bytes(range(1, 256)) * 40), ("expected a video",)),
    "video is sound": (sound, ("sound|without a video stream",)),
    "video is a RAR": (not_a_video(".mp4", b"Rar!\x1a\x07\x01" + b"\1" * 400), ("rar",)),
    "video is a PDF": (not_a_video(".mpg", b"%PDF-1.7\n" + b"\1" * 400), ("PDF",)),
    "cut before its index": (cut(form_of(".mp4", "libx264"), 0.6), ("whole|truncated|cut",)),
    "cut .mkv": (cut_but_kept(".mkv", "ffv1", 0.6), ()),
    "cut .avi": (cut_but_kept(".avi", "rawvideo", 0.7), ()),
    "cut .webm": (cut_but_kept(".webm", "libvpx-vp9", 0.7), ()),
    "hole in a .ts": (hole, ()),
    "two videos of one name": (two_of_one_name, (r"run7\.", "name")),
    "two streams": (two_streams, ("48x32", "64x32", "--map video=")),
    "no table": (no_table, (r"run7\.csv",)),
    "two tables": (two_tables, (r"run7\.csv", r"run7\.txt")),
    "link to nowhere": (link_to_nowhere, ("link", "disk2/run7.mkv")),
    "table is a pointer": (bad_table(lambda f, r: LFS), ("Git LFS pointer",)),
    "table is a web page": (bad_table(lambda f, r: PAGE), ("web page",)),
    "table is empty": (bad_table(lambda f, r: b""), ("empty",)),
    "table is an old workbook": (bad_table(lambda f, r: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, ".xls"), ("xlsx",)),
    "workbook of two sheets": (bad_table(workbook(2), ".xlsx"), ("sheet",)),
    "cut workbook": (bad_table(workbook(1, 0.7), ".xlsx"), ("zip|workbook",)),
    "only a header": (bad_table(lambda f, r: "time,a,b,c\n"), ("header",)),
    "no seconds": (bad_table(retimed("%Y-%m-%d %H:%M")), ("second", "minute")),
    "dates alone": (bad_table(retimed("%Y-%m-%d")), ("dates alone",)),
    "day or month": (bad_table(retimed("%d/%m/%Y %H:%M:%S")), ("day before month", "month before day", r"--time-format")),
    "one row a minute": (bad_table(retimed("%Y-%m-%d %H:%M:%S", step_ms=60_000)), ("rows? a second",)),
    "backwards": (bad_table(backwards), ("backwards", "row 6")),
    "a short row": (bad_table(lambda f, r: f.to_csv(index=False) + "2023-05-17 21:34:26,70"), ("columns", "cut off")),
    "a word": (bad_table(with_cell(5, 2, "furnace")), ("furnace", "row 6")),
    "NULs amid": (bad_table(with_cell(5, 2, "\0\0\0\0")), ("NUL", "row 6")),
    "two decimal signs": (bad_table(two_signs), ("decimal",)),
    "scientific times": (bad_table(scientific), ("shortened|digits",)),
    "phases without names": (bad_table(nameless), ("--map a=",)),
    "two columns of times": (bad_table(two_times), ("time", "received", "--map time=")),
    "some zones": (bad_table(mixed_zones), ("offset from UTC",)),
    "no such day": (bad_table(with_cell(5, 0, "2023-02-30 21:33:28.000")), ("2023-02-30", "calendar")),
    "hour 25": (bad_table(with_cell(5, 0, "2023-05-17 25:33:28.000")), ("time of day", "25:33")),
    "a time is missing": (bad_table(with_cell(5, 0, "")), ("time in every row", "row 6")),
    "two phases": (bad_table(lambda f, r: f.drop(columns="c").to_csv(index=False)), ("three phases",)),
    "seconds of another clock": (
        bad_table(lambda f, r: f.assign(time=90_000 + np.arange(len(f)) / 2).to_csv(index=False)), ("video|in common",),
    ),
    "header against rate": (
        bad_table(lambda f, r: f.assign(time=np.arange(len(f)) * 500).rename(columns={"time": "time_s"}).to_csv(index=False)),
        ("milliseconds", "seconds", "--time-format"),
    ),
    "a quote that is not closed": (bad_table(with_cell(5, 2, '"7000')), ("quote",)),
    "table is Parquet": (bad_table(lambda f, r: b"PAR1" + b"\x15\4" * 300 + b"PAR1"), ("Parquet",)),
    "MAT is a pointer": (mat_of(LFS), ("Git LFS pointer",)),
    "MAT is a web page": (mat_of(PAGE), ("web page",)),
    "MAT is a 7z": (mat_of(b"7z\xbc\xaf\x27\x1c" + b"\1" * 300), ("7z",)),
    "MAT is NumPy's": (mat_of(b"\x93NUMPY\x01\0" + b"\1" * 300), ("NumPy",)),
    "cells": (bad_mat(video=cells), ("cell", r"cat\(")),
    "struct": (bad_mat(video=lambda c: {"frames": c["video"]}), ("struct",)),
    "sparse": (bad_mat(current=lambda c: scipy.sparse.csc_matrix(c["current"])), ("sparse", r"full\(")),
    "char": (bad_mat(label="none yet"), ("char",)),
    "complex": (bad_mat(current=lambda c: c["current"] * 1j), ("complex",)),
    "objects": (bad_mat(train_test_index=np.array([["a", 2.0]], dtype=object)), ("cell",)),
    "video of doubles": (bad_mat(video=lambda c: c["video"] / 255.0), ("uint8", "double")),
    "labels of 0.3": (bad_mat(label=lambda c: c["label"] + 0.3), (r"0\.3", "0/1")),
    "labels of 1 and 255": (bad_mat(label=lambda c: c["label"] + np.uint8([[[1]]]) * (np.arange(30) % 2 * 254 + 1).astype(np.uint8)), ("1 and 255",)),
    "labels turned": (bad_mat(label=lambda c: c["label"].transpose(1, 0, 2)), ("axes are exchanged",)),
    "frames differ": (bad_mat(current=np.ones((3, 17))), ("30", "17")),
    "index of 2": (bad_mat(train_test_index=np.full((1, 30), 2.0)), ("0 .train. and 1 .test.", "2")),
    "no label": (bad_mat(label=None), ("label",)),
    "grey video": (bad_mat(video=lambda c: c["video"][:, :, 0]), ("height, width, 3",)),
    "frames first": (bad_mat(video=lambda c: c["video"].transpose(3, 0, 1, 2)), ("height, width, 3",)),
    "soft link": (hdf5(soft_link), ("link to /archive/video", "not there")),
    "external link": (hdf5(external_link), (r"link", r"labels_2023\.mat")),
    "missing filter": (hdf5(blosc), ("Blosc", "hdf5plugin")),
    "video never written": (hdf5(unwritten), ("were ever written",)),
    "version 4": (version_4, ("version 4",)),
    "Octave's text": (octave_file("-text"), ("Octave", "-v7")),
    "Octave's HDF5": (octave_file("-hdf5"), ("Octave", "-v7")),
    "cut v7.3": (cut_mat("h5py", 0.6), ("cut off|bytes",)),
    "cut v7": (cut_mat("scipy v7", 0.5), ("cut|end|bytes|without",)),
    "no currents": (bad_tree(lambda root: (root / "currents" / "run7.csv").unlink()), (r"currents/run7\.csv",)),
    "no train.json": (bad_tree(lambda root: (root / "train.json").unlink()), (r"train\.json",)),
    "broken JSON": (bad_tree(write("test.json", '{"run7.mat": [1, 2,')), (r"test\.json", "JSON")),
    "frame out of range": (bad_tree(edit("test.json", lambda c: {k: [*v, 900] for k, v in c.items()})), ("900", "below")),
    "frame in both": (bad_tree(edit("test.json", lambda c: {k: [*v, 0] for k, v in c.items()})), (r"train\.json too",)),
    "stamps too few": (bad_tree(drop_rows("timestamps/run7.csv", -3)), ("one time for each",)),
    "currents of another day": (bad_tree(another_day), ("in common",)),
    "table without header": (bad_tree(drop_rows("currents/run7.csv", 1)), ("header",)),
    "dates in one table": (bad_tree(without_dates), ("date",)),
    "partial tree": (partial_tree, ()),
    "pointer in a tree": (pointer_in_tree, ()),
    "mixed folder": (mixed_folder, ()),
}  # fmt: skip
