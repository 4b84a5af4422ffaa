"""Large files for the timings: FMF-Sim's own frames, tiled until the file is as long as wanted.

The simulator draws a few thousand frames once; each repetition is shifted and mirrored, so that no two
stretches of the file are the same bytes while noise, texture and compressibility stay those of FMF-Sim.
Files are kept in a folder and used again.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from fmfbench.furnace.drawing import Drawing
from fmfbench.furnace.mat_write import CHUNK_FRAMES, open_mat_writer
from fmfbench.furnace.plan import make_plan, parse_preset
from fmfbench.furnace.render import Furnace

FRAME_BYTES = 64 * 64 * 3
DRAWN = 8000  # frames, which the simulator draws
BLOCK = 1000  # frames, a multiple of the chunk's
Array = NDArray[np.uint8]


def folder() -> Path:
    """Where the material is kept: $FMFBENCH_MATERIAL, or a folder of the system's temporary one."""
    path = Path(os.environ.get("FMFBENCH_MATERIAL", Path(tempfile.gettempdir()) / "fmfbench-material"))
    path.mkdir(parents=True, exist_ok=True)
    return path


def sim_frames() -> tuple[Array, Array]:
    """The first frames of FMF-Sim's preset `full` as MATLAB stores them: video (n,3,W,H), labels (n,W,H)."""
    cached = folder() / "fmf-sim-full-1.npz"
    if not cached.exists():
        furnace = Furnace(make_plan(parse_preset("full"), 0, 0))
        with Drawing(os.cpu_count() or 1, total=DRAWN, progress=True) as drawing:
            blocks: list[Array] = []
            for block in drawing.blocks(furnace):
                blocks.append(block.video)
                if sum(map(len, blocks)) >= DRAWN:
                    break
        video = np.concatenate(blocks)[:DRAWN].transpose(0, 3, 2, 1)
        np.savez(cached, video=video, label=furnace.draw_labels(0, DRAWN).transpose(0, 2, 1))
    with np.load(cached) as kept:
        return kept["video"], kept["label"]


def tiled(num_frames: int, which: int) -> Iterator[Array]:
    """Blocks of video (`which` 0) or labels (1), `num_frames` in all."""
    frames = sim_frames()[which]
    made = 0
    for repetition in range(num_frames):
        for start in range(0, len(frames), BLOCK):
            if made >= num_frames:
                return
            block = np.roll(frames[start : start + BLOCK], (5 * repetition, 3 * repetition), (-2, -1))
            block = block[..., ::-1] if repetition % 2 else block
            block = block[: num_frames - made]
            made += len(block)
            yield np.ascontiguousarray(block)


def mat_file(version: str, video_bytes: int) -> Path:
    """A V2 file of 64x64 frames: v7.3 in gzip level 3 and chunks of 8 whole frames, or v7 as one stream."""
    frames = -(-video_bytes // FRAME_BYTES)
    path = folder() / f"{version}-{frames}.mat"
    if path.exists():
        return path
    partial = path.with_suffix(".partial")
    if version == "v7":
        with open_mat_writer(partial, version, "FMF-Sim, tiled") as writer:
            writer.write("data", (64, 64, 3, frames), "uint8", tiled(frames, 0))
            writer.write("label", (64, 64, frames), "uint8", tiled(frames, 1))
    else:
        write_v73(partial, frames, (CHUNK_FRAMES, 3, 64, 64), (CHUNK_FRAMES, 64, 64))
    os.replace(partial, path)
    return path


def hostile_file(
    name: str, frames: int, video_chunks: tuple[int, ...], label_chunks: tuple[int, ...]
) -> Path:
    """A v7.3 file in gzip level 3 and the chunk shapes given, in HDF5's order (T,C,W,H)."""
    path = folder() / f"hostile-{name}-{frames}.mat"
    if not path.exists():
        partial = path.with_suffix(".partial")
        write_v73(partial, frames, video_chunks, label_chunks)
        os.replace(partial, path)
    return path


def write_v73(path: Path, frames: int, video_chunks: tuple[int, ...], label_chunks: tuple[int, ...]) -> None:
    """`data` and `label`; chunks of whole frames are compressed on all cores, others by HDF5."""
    with h5py.File(path, "w", userblock_size=512) as file, ThreadPoolExecutor() as pool:
        for name, which, shape, chunks in (
            ("data", 0, (frames, 3, 64, 64), video_chunks),
            ("label", 1, (frames, 64, 64), label_chunks),
        ):
            dataset = file.create_dataset(name, shape, "u1", chunks=chunks, compression=3)
            dataset.attrs["MATLAB_class"] = np.bytes_("uint8")
            if chunks[1:] == shape[1:] and BLOCK % chunks[0] == 0:
                _write_whole_frames(dataset, chunks, tiled(frames, which), pool)
            else:
                dataset[...] = np.concatenate(list(tiled(frames, which)))
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, FMF-Sim, tiled".ljust(116) + b"\0" * 8 + b"\x00\x02IM")


def encode_gratings(path: Path, width: int, height: int, seconds: int, *, stripe: int) -> None:
    """H.264 at 25 frames a second of moving gratings and noise: a decoder has work of a usual kind."""
    import av

    rng = np.random.default_rng(0)
    noise = rng.integers(0, 30, (height + 64, width + 64), dtype=np.uint8)
    ramp = (np.arange(width) // stripe % 128).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "23"}
        for i in range(25 * seconds):
            luma = np.roll(ramp, 3 * i) + noise[i % 64 : i % 64 + height, i % 64 : i % 64 + width]
            chroma = np.full((height // 2, width), 128, np.uint8)
            frame = av.VideoFrame.from_ndarray(np.vstack([luma, chroma]), format="yuv420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _write_whole_frames(
    dataset: h5py.Dataset, chunks: tuple[int, ...], blocks: Iterator[Array], pool: ThreadPoolExecutor
) -> None:
    import zlib

    def squeeze(piece: Array) -> bytes:
        whole = np.zeros(chunks, np.uint8)
        whole[: len(piece)] = piece
        return zlib.compress(whole.tobytes(), 3)

    def pieces() -> Iterator[Array]:
        for block in blocks:
            for start in range(0, len(block), chunks[0]):
                yield block[start : start + chunks[0]]

    rest, at = pieces(), 0
    while batch := list(islice(rest, 256)):
        for piece, data in zip(batch, pool.map(squeeze, batch), strict=True):
            dataset.id.write_direct_chunk((at, *(0 for _ in chunks[1:])), data)
            at += len(piece)
