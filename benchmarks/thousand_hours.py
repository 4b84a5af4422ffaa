"""What 1,000 hours of raw video cost, predicted from minutes and checked on two hours through a local cluster.

    python benchmarks/thousand_hours.py [--hours 2] [--processes 2] [--size 320x180]

Makes four recordings of raw video (a clip of a minute, repeated, at a low resolution: decoding 2560x1440 is measured by
raw.py) with tables of currents. The model is fitted to one recording of two minutes converted in this process alone:
processor seconds a frame, bytes of store a frame. What it predicts for all four is then compared with
`fmfbench convert --processes N`: processor seconds of all its processes, bytes and files of the store, requests that
uploading it takes. Exit 1 where the prediction is off by more than a third.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from material import encode_gratings

from fmfbench.store.schema import video_spec

FPS = 25
STORED = "64x64"
TOLERANCE = 1 / 3


def make_recording(clip: Path, path: Path, minutes: int) -> None:
    """The clip, packet by packet, so many times over; and a table of currents beside it."""
    import av

    with av.open(str(clip)) as source, av.open(str(path), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.dts is not None]
        step = int(60 / packets[0].time_base)
        for _ in range(minutes):
            for packet in packets:
                packet.stream = stream
                container.mux(packet)
                packet.pts, packet.dts = packet.pts + step, packet.dts + step
    rng = np.random.default_rng(1)
    rows = np.arange(minutes * 120)
    stamps = np.datetime64("2023-05-10T21:33:26.000") + rows * np.timedelta64(500, "ms")
    values = rng.normal(7000, 300, (len(rows), 3)).round(1)
    lines = [f"{str(t).replace('T', ' ')},{a},{b},{c}" for t, (a, b, c) in zip(stamps, values, strict=True)]
    path.with_suffix(".csv").write_text("\n".join(["time,a,b,c", *lines]) + "\n")


def processor_seconds() -> float:
    """Of the processes that this one waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def convert(source: Path, store: Path, *options: str) -> tuple[float, float]:
    """(wall, processor) seconds of `fmfbench convert`, its worker processes included."""
    start, before = time.perf_counter(), processor_seconds()
    command = [sys.executable, "-m", "fmfbench", "convert", str(source), str(store), "--size", STORED]
    subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start, processor_seconds() - before


def files_of(store: Path) -> tuple[int, int]:
    """(files, bytes)."""
    sizes = [path.stat().st_size for path in store.rglob("*") if path.is_file()]
    return len(sizes), sum(sizes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--size", default="320x180")
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    each = round(options.hours * 60 / 4)
    with tempfile.TemporaryDirectory(dir=os.environ.get("FMFBENCH_MATERIAL")) as name:
        folder = Path(name)
        encode_gratings(folder / "clip.mp4", width, height, 60, stripe=4)
        for place, minutes, count in (("few", 2, 1), ("more", 6, 1), ("all", each, 4)):
            (folder / place).mkdir()
            for number in range(count):
                make_recording(folder / "clip.mp4", folder / place / f"run{number}.mp4", minutes)
        fits = {
            m: convert(folder / p, folder / f"{p}.zarr", "--workers", "1")
            for p, m in (("few", 2), ("more", 6))
        }
        frames = 4 * 60 * FPS
        per_frame = (fits[6][1] - fits[2][1]) / frames  # start-up falls out
        count, size = files_of(folder / "more.zarr")
        size_per_frame = size / (6 * 60 * FPS)
        total = 4 * each * 60 * FPS
        wall, used = convert(folder / "all", folder / "all.zarr", "--processes", str(options.processes))
        files, stored = files_of(folder / "all.zarr")
        predicted = per_frame * total
        print(f"{total:,} frames ({total / FPS / 3600:.2f} hours) of {options.size}, stored as {STORED}")
        print(f"model: {per_frame * 1000:.3f} ms of a core and {size_per_frame:,.0f} bytes a frame")
        print(f"processor seconds: predicted {predicted:.0f}, of {options.processes} processes {used:.0f}")
        print(
            f"store: predicted {size_per_frame * total / 1e6:.0f} MB, got {stored / 1e6:.0f} MB in {files} files"
        )
        print(f"upload: {files} PUT requests, and one list; wall {wall:.0f} s")
        hours = 1000 * 3600 * FPS
        shard = video_spec(1, *map(int, STORED.split("x"))).shard
        print(
            f"1,000 hours at this resolution: {per_frame * hours / 3600:.0f} core hours, "
            f"{size_per_frame * hours / 1e12:.2f} TB, {-(-hours // shard):,} shards of {shard} frames"
        )
        off = [abs(used / predicted - 1), abs(stored / (size_per_frame * total) - 1)]
        print(f"off by {off[0]:.0%} of the processor time, {off[1]:.0%} of the bytes")
        sys.exit(max(off) > TOLERANCE)


if __name__ == "__main__":
    main()
