"""Which chunk, codec and shard the store should have: size, sequential read and random windows, on FMF-Sim.

    python benchmarks/codec_grid.py

One core; processor seconds, so that other load on the machine counts little. Sequential: every frame once,
through `ArrayReader`. Window: 10 frames, stride 4, at random places, as the `paper` protocol reads them with no cache.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from material import folder, sim_frames

from fmfbench.store.schema import ArraySpec, mask_spec, video_spec
from fmfbench.store.shards import ArrayReader, shard_pieces
from fmfbench.store.writer import replace_file, write_document

CODECS = (
    ("lz4", 1, "noshuffle"), ("lz4", 5, "noshuffle"), ("lz4", 1, "bitshuffle"), ("lz4", 5, "bitshuffle"),
    ("zstd", 1, "noshuffle"), ("zstd", 1, "bitshuffle"), ("zstd", 3, "noshuffle"), ("zstd", 3, "bitshuffle"),
)  # fmt: skip
CHUNKS = (5, 10, 25, 50)
SHARD_MIB = (3, 12, 48)
FRAMES = 8000
WINDOWS = 400
HEAD = """\
| codec | level | shuffle | chunk | shard MiB | encode s/GB | size | read s/GB | windows/s |
|---|---|---|---|---|---|---|---|---|"""


def seconds(work: Callable[[], object], repeat: int = 3) -> float:
    best = float("inf")
    for _ in range(repeat):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


def measure(spec: ArraySpec, video: np.ndarray, place: Path) -> tuple[float, float, float, float]:
    """Encode s/GB, size ratio, sequential s/GB, windows a second."""
    shutil.rmtree(place, ignore_errors=True)
    (place / "c").mkdir(parents=True)
    write_document(place / "zarr.json", spec.to_document())

    def write() -> None:
        for index in range(spec.num_shards):
            first, last = spec.shard_range(index)
            path = place / spec.shard_key(index)
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, shard_pieces(spec, video[first:last]))

    encode = seconds(write, repeat=2)
    size = sum(p.stat().st_size for p in (place / "c").rglob("*") if p.is_file())
    reader = ArrayReader(place)

    def sequential() -> None:
        for first in range(0, len(video), 500):
            reader.read(first, first + 500)

    reach = 36 if video.ndim == 4 else 0
    ends = np.random.default_rng(0).integers(36, len(video), WINDOWS)

    def windows() -> None:
        out = np.empty((10, *video.shape[1:]), np.uint8)
        for end in ends:
            frames = range(end - reach, end + 1, 4)
            for chunk, group in itertools.groupby(enumerate(frames), key=lambda f: f[1] // spec.chunk):
                data = reader.chunk(chunk)
                for k, frame in group:
                    out[k] = data[frame % spec.chunk]

    gigabytes = video.nbytes / 1e9
    return (
        encode / gigabytes,
        size / video.nbytes,
        seconds(sequential) / gigabytes,
        WINDOWS / seconds(windows),
    )


def table(base: ArraySpec, values: np.ndarray, grid: Iterable[Any], place: Path) -> None:
    for (cname, clevel, shuffle), chunk, mib in grid:
        shard = chunk * max(1, (mib << 20) // (chunk * values[0].nbytes))
        spec = replace(base, chunk=chunk, shard=shard, cname=cname, clevel=clevel, shuffle=shuffle)
        encode, size, read, windows = measure(spec, values, place)
        print(
            f"| {cname} | {clevel} | {shuffle} | {chunk} | {mib} | {encode:.2f} | {size:.3f} | {read:.2f} "
            f"| {windows:.0f} |",
            flush=True,
        )


def main() -> None:
    video = np.ascontiguousarray(sim_frames()[0][:FRAMES].transpose(0, 3, 2, 1))
    base = video_spec(FRAMES, 64, 64)
    place = folder() / f"grid-{os.getpid()}"
    print(HEAD)
    grid = [(codec, chunk, 12) for codec in CODECS for chunk in CHUNKS]
    grid += [(("lz4", 5, "noshuffle"), 25, mib) for mib in SHARD_MIB if mib != 12]
    table(base, video, grid, place)
    print("\nMasks, 0/1, one byte a pixel; a window reads one frame.\n")
    print(HEAD)
    masks = np.ascontiguousarray(sim_frames()[1][:FRAMES].transpose(0, 2, 1))
    mask_grid = [
        (("lz4", 5, shuffle), chunk, 12) for shuffle in ("noshuffle", "bitshuffle") for chunk in (8, 32, 128)
    ]
    table(mask_spec(FRAMES, 64, 64, {}), masks, mask_grid, place)
    shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
