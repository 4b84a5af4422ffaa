"""The file forms in which a simulated recording is written: V2, V1, and a raw recording.

A recording's video file is written last and under a temporary name, so it is there only when all is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fmfbench.files.atomic import replacing
from fmfbench.furnace import NAME, VERSION
from fmfbench.furnace.drawing import Drawing
from fmfbench.furnace.events import TEST, TRAIN
from fmfbench.furnace.mat_write import MAT_VERSIONS, open_mat_writer
from fmfbench.furnace.plan import Plan
from fmfbench.furnace.render import BLOCK_FRAMES, Block, Furnace
from fmfbench.furnace.truth import truth_arrays, write_arrays

__all__ = ["LAYOUTS", "TREE", "is_finished", "write_index", "write_recording"]

LAYOUTS = ("v2", "v1", "recording")
TREE = "pixel-level"  # the V2 tree's folder, as in the real data
HEADER_TEXT = f"{NAME} {VERSION}, simulated"

Array = npt.NDArray[Any]


def is_finished(folder: Path, name: str, layout: str) -> bool:
    """Whether an earlier run has written this recording."""
    return _video_path(folder, name, layout).is_file()


def write_recording(
    folder: Path, furnace: Furnace, drawing: Drawing, *, layout: str, mat: str | None, truth: str
) -> None:
    """Write one recording and its truth."""
    name = furnace.plan.name
    target = _video_path(folder, name, layout)
    target.parent.mkdir(parents=True, exist_ok=True)
    (folder / "truth").mkdir(exist_ok=True)
    visibility = np.empty(furnace.plan.frames, dtype=np.float32)
    pixels = np.empty((furnace.plan.frames, 3), dtype=np.uint16)
    blocks = _noting(drawing.blocks(furnace), visibility, pixels)
    # Of one name however often it is tried: the same call, killed and repeated, writes over it.
    with replacing(target, under=target.with_name(target.name + ".part")) as part:
        if layout == "v2":
            _write_v2(folder / TREE, part, furnace, blocks, mat or MAT_VERSIONS[0])
        elif layout == "v1":
            _write_v1(part, furnace, blocks, mat or MAT_VERSIONS[0])
        else:
            from fmfbench.furnace.raw import write_raw

            write_raw(part, target.with_suffix(".csv"), furnace, blocks)
        write_arrays(folder / "truth" / f"{name}.npz", truth_arrays(furnace, visibility, pixels))
        if truth == "frames":
            _write_truth_frames(folder / "truth" / f"{name}.h5", furnace, drawing)


def write_index(folder: Path, plans: list[Plan], layout: str) -> None:
    """The split files of a V2 tree; the other layouts have none."""
    if layout != "v2":
        return
    for name, value in (("train", TRAIN), ("test", TEST)):
        frames = {f"{plan.name}.mat": np.flatnonzero(plan.split == value).tolist() for plan in plans}
        (folder / TREE / f"{name}.json").write_bytes(json.dumps(frames).encode())


def _video_path(folder: Path, name: str, layout: str) -> Path:
    if layout == "v2":
        return folder / TREE / "videos" / f"{name}.mat"
    return folder / f"{name}.{'mat' if layout == 'v1' else 'avi'}"


def _write_v2(tree: Path, part: Path, furnace: Furnace, blocks: Iterator[Block], mat: str) -> None:
    plan = furnace.plan
    with open_mat_writer(part, mat, HEADER_TEXT) as writer:
        writer.write("data", (plan.height, plan.width, 3, plan.frames), "uint8", _videos(blocks))
        writer.write("label", (plan.height, plan.width, plan.frames), "uint8", _labels(furnace))
    start = datetime.fromisoformat(plan.start)
    rows = zip(plan.timing.current_second.tolist(), furnace.current.amperes.tolist(), strict=True)
    current = [f"{_stamp(start, second)},{a:.2f},{b:.2f},{c:.2f}" for second, (a, b, c) in rows]
    _write_lines(tree / "currents" / f"{plan.name}.csv", ["time,a,b,c", *current])
    stamps = [_stamp(start, second) for second in plan.timing.frame_second.tolist()]
    _write_lines(tree / "timestamps" / f"{plan.name}.csv", ["time", *stamps])


def _write_v1(part: Path, furnace: Furnace, blocks: Iterator[Block], mat: str) -> None:
    plan = furnace.plan
    held = np.searchsorted(furnace.current.time, plan.timing.frame_time, side="right") - 1
    with open_mat_writer(part, mat, HEADER_TEXT) as writer:
        writer.write("video", (plan.height, plan.width, 3, plan.frames), "uint8", _videos(blocks))
        writer.write("current", (3, plan.frames), "float64", [furnace.current.amperes[held]])
        writer.write("label", (plan.height, plan.width, plan.frames), "uint8", _labels(furnace))
        index = (plan.split == TEST).astype(np.uint8)[:, None]
        writer.write("train_test_index", (1, plan.frames), "uint8", [index])


def _write_truth_frames(path: Path, furnace: Furnace, drawing: Drawing) -> None:
    """`clean` (T, H, W, 3) as h5py sees it and `heat` (T, H, W), uint8, in one HDF5 file."""
    plan = furnace.plan

    def blocks() -> Iterator[Block]:
        return drawing.blocks(furnace, truth_frames=True, count=False)

    with (
        replacing(path, under=path.with_name(path.name + ".part")) as part,
        open_mat_writer(part, "v7.3", f"{HEADER_TEXT}, hidden states") as writer,
    ):
        clean = (block.clean for block in blocks() if block.clean is not None)
        writer.write("clean", (3, plan.width, plan.height, plan.frames), "uint8", clean)
        heat = (block.heat for block in blocks() if block.heat is not None)
        writer.write("heat", (plan.width, plan.height, plan.frames), "uint8", heat)


def _noting(
    blocks: Iterator[Block], visibility: npt.NDArray[np.float32], pixels: npt.NDArray[np.uint16]
) -> Iterator[Block]:
    """Pass blocks on, keep their visibility and how many pixels are hot, labelled and both."""
    for block in blocks:
        own = slice(block.start, block.start + len(block.video))
        visibility[own] = block.visibility
        for column, mask in enumerate((block.hot, block.label, block.hot & block.label)):
            pixels[own, column] = mask.sum(axis=(1, 2), dtype=np.uint16)
        yield block


def _videos(blocks: Iterator[Block]) -> Iterator[Array]:
    """(n, 3, W, H) blocks: MATLAB's (H, W, 3, n) with its dimensions reversed."""
    for block in blocks:
        yield block.video.transpose(0, 3, 2, 1)


def _labels(furnace: Furnace) -> Iterator[Array]:
    """(n, W, H) blocks of masks."""
    for start in range(0, furnace.plan.frames, BLOCK_FRAMES):
        stop = min(start + BLOCK_FRAMES, furnace.plan.frames)
        yield furnace.draw_labels(start, stop).transpose(0, 2, 1)


def _stamp(start: datetime, second: int) -> str:
    return (start + timedelta(seconds=second)).strftime("%Y-%m-%d %H:%M:%S")


def _write_lines(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(("\n".join(lines) + "\n").encode())
