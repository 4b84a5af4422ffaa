"""Loading windows: every ratio of the loading side with its target, exit 1 when one falls short.

    python benchmarks/windows.py [--rounds N]

Windows of the paper protocol (10 frames of 64x64x3, 440 current values) from FMF-Sim, tiled; two cores. Each
ratio is the median over rounds that measure both sides in turn, so that a machine that slows down slows both.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from itertools import islice, pairwise

import h5py
import numpy as np
import recordings
import torch
from plain_loader import PlainWindows, gather_plainly
from torch.utils.data import DataLoader

import fmfbench
from fmfbench.torch import DeviceWindows, WindowDataset, make_loader

BATCH = 64
GATHERS = 150  # batches of a round
EPOCH_BATCHES = 300
BUFFER = 10**9
WORKERS = (0, 1, 2, 3)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def drain(batches: Iterable[dict[str, torch.Tensor]]) -> int:
    """Windows handed out. Each batch is dropped as a training step would drop it."""
    return sum(len(batch["class_label"]) for batch in batches)


def resident_mb(pid: int | str = "self") -> float:
    with open(f"/proc/{pid}/statm") as handle:
        return int(handle.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


class Report:
    def __init__(self) -> None:
        self.short: list[str] = []

    def line(self, text: str) -> None:
        print(text, flush=True)

    def ratio(self, name: str, ratios: list[float], target: float) -> None:
        value = statistics.median(ratios)
        good = value >= target
        if not good:
            self.short.append(name)
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        self.line(f"{name}: {value:.2f} ({spread}), target {target}: {'met' if good else 'SHORT'}")


def in_memory(windows: fmfbench.windows.reader.Windows, rounds: int, report: Report) -> None:
    """`batch` from memory against numpy's own gather, both into arrays that are there."""
    rng = np.random.default_rng(0)
    positions = rng.integers(0, len(windows), (GATHERS, BATCH))
    windows.load()
    loaded = windows._loaded[0]
    table = windows.samples.currents
    out = windows.batch(positions[0])
    plans = [
        (loaded.video_index[p].astype(np.int64), table.start[p], loaded.mask_index[p]) for p in positions
    ]

    def plain() -> None:
        for frames, rows, masks in plans:
            gather_plainly(loaded.video, table.values, loaded.mask, frames, rows, masks, out)

    def reused() -> None:
        for p in positions:
            windows.batch(p, out=out)

    def fresh() -> None:
        for p in positions:
            windows.batch(p)

    for work in (plain, reused, fresh):
        work()
    times = [(seconds(plain), seconds(reused), seconds(fresh)) for _ in range(rounds)]
    count = GATHERS * BATCH
    for name, at in (("numpy gather", 0), ("w.batch(out=)", 1), ("w.batch", 2)):
        report.line(f"  {name}: {count / min(t[at] for t in times):,.0f} windows/s")
    report.ratio("memory: w.batch / numpy gather", [t[0] / t[2] for t in times], 0.6)
    report.ratio("memory: w.batch(out=) / numpy gather", [t[0] / t[1] for t in times], 0.6)


def from_disk(data: fmfbench.Dataset, rounds: int, report: Report) -> None:
    """64 random windows of a batch against h5py reading one slice a window from the .mat."""
    windows = data.windows("train", "paper")
    mats = [h5py.File(path, "r")["data"] for path in recordings.mat_files()]
    rng = np.random.default_rng(1)
    batches = rng.integers(100, len(windows), (6, BATCH))
    where = [data.locate(windows.sample_ids[batch]) for batch in batches]

    def plain() -> None:
        for number, frame in where:
            for k, e in zip(number.tolist(), frame.tolist(), strict=True):
                mats[k][max(0, e - 36) : e + 1][::-4]

    def ours() -> None:
        for batch in batches:
            windows.batch(batch)

    plain(), ours()
    times = [(seconds(plain), seconds(ours)) for _ in range(rounds)]
    count = len(batches) * BATCH
    report.line(f"  h5py: {count / min(t[0] for t in times):,.0f} windows/s")
    report.line(f"  w.batch, no cache: {count / min(t[1] for t in times):,.0f} windows/s")
    report.ratio("disk: w.batch of 64 / h5py slices", [t[0] / t[1] for t in times], 3)


def loaders(
    windows: fmfbench.windows.reader.Windows, data: fmfbench.Dataset, rounds: int, report: Report
) -> None:
    """Loaders to a collated batch: ours in memory, ours out of core, and the plain Dataset."""
    plain = PlainWindows(data.windows("train", "paper", every=windows.every))
    dataset = WindowDataset(windows)
    rates: dict[tuple[str, int], list[float]] = {}

    def measure(name: str, workers: int, loader: Iterable[dict[str, torch.Tensor]], batches: int) -> None:
        iterator = iter(loader)
        next(iterator)  # workers have started
        start = time.perf_counter()
        count = drain(islice(iterator, batches))
        rates.setdefault((name, workers), []).append(count / (time.perf_counter() - start))

    for _ in range(rounds):
        for workers in WORKERS:
            reference = DataLoader(plain, batch_size=BATCH, shuffle=True, num_workers=workers)
            measure("plain Dataset", workers, reference, EPOCH_BATCHES // 6)
            ours = make_loader(dataset, BATCH, shuffle=True, num_workers=workers)
            measure("memory, threads", workers, ours, EPOCH_BATCHES)
            if workers:
                forked = make_loader(dataset, BATCH, shuffle=True, num_workers=workers, start_method="fork")
                measure("memory, processes", workers, forked, EPOCH_BATCHES)
    for (name, workers), values in sorted(rates.items()):
        report.line(f"  {name}, {workers} workers: {statistics.median(values):,.0f} windows/s")

    def best(name: str) -> list[float]:
        candidates = [values for (which, _), values in rates.items() if which == name]
        return max(candidates, key=statistics.median)

    pairs = zip(best("memory, threads"), best("plain Dataset"), strict=True)
    report.ratio("make_loader / plain Dataset, each at its best", [a / b for a, b in pairs], 8)
    two = rates["plain Dataset", 2]
    for name in ("memory, threads", "memory, processes"):
        ratios = [a / b for a, b in zip(rates[name, 2], two, strict=True)]
        report.ratio(f"make_loader ({name}) / plain Dataset, 2 workers each", ratios, 3.5)


def out_of_core(
    data: fmfbench.Dataset, windows: fmfbench.windows.reader.Windows, rounds: int, report: Report
) -> None:
    """Whole shuffled epochs in blocks, bounded to 1 GB, against whole shuffled epochs from memory."""
    cold = WindowDataset(data.windows("train", "paper", every=windows.every))
    warm = WindowDataset(windows)
    size = sum(r.num_frames for r in data.recordings.values()) * 64 * 64 * 4 / 1e9
    report.line(f"  frames and masks of the store: {size:.2f} GB; buffer {BUFFER / 1e9:.1f} GB")
    _count_chunks(data, cold, report)
    ratios = []
    for epoch in range(rounds):
        memory = []
        blocks = []
        for workers in (1, 2):
            loader = make_loader(warm, BATCH, shuffle=True, num_workers=workers)
            loader.set_epoch(epoch)
            start = time.perf_counter()
            drain(loader)
            memory.append(len(warm) / (time.perf_counter() - start))
            loader = make_loader(cold, BATCH, shuffle="block", num_workers=workers, buffer_bytes=BUFFER)
            loader.set_epoch(epoch)
            before = peak = resident_mb()
            start = time.perf_counter()
            for k, _ in enumerate(loader):
                if k % 20 == 0:
                    peak = max(peak, resident_mb())
            blocks.append(len(cold) / (time.perf_counter() - start))
            report.line(
                f"  {workers} threads: memory {memory[-1]:,.0f}, blocks {blocks[-1]:,.0f} windows/s; "
                f"resident +{peak - before:,.0f} MB"
            )
        ratios.append(max(blocks) / max(memory))
    report.ratio("out of core / memory, whole shuffled epochs", ratios, 0.3)


def _count_chunks(data: fmfbench.Dataset, dataset: WindowDataset, report: Report) -> None:
    """How often an epoch in blocks reads each chunk of video that its windows touch."""
    from fmfbench.windows.blocks import BlockShuffle

    blocks = BlockShuffle(dataset.windows.samples, BUFFER)
    order = blocks.order(0, 0)
    index = blocks.index
    reads, chunks = 0, set()
    for first, stop in pairwise(order.bounds.tolist()):
        windows = order.order[first:stop]
        held, _ = index.video_table(windows)
        for number, places, _ in index.by_recording(windows):
            size = index.recordings[number].video.spec.chunk
            found = np.unique(held[places] // size).tolist()
            reads += len(found)
            chunks |= {(number, k) for k in found}
    report.line(
        f"  {order.num_groups} groups of {blocks.group_blocks} blocks of {blocks.block_frames} frames; "
        f"each chunk is read {reads / len(chunks):.2f} times an epoch"
    )


def on_device(windows: fmfbench.windows.reader.Windows, report: Report) -> None:
    """Windows gathered where the split lives; the target is for a GPU of the H200 class."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    gathered = DeviceWindows(windows, device)
    positions = np.random.default_rng(0).integers(0, len(windows), (GATHERS, BATCH))

    def work() -> None:
        for p in positions:
            gathered.batch(p)
        if device == "cuda":
            torch.cuda.synchronize()

    work()
    rate = positions.size / min(seconds(work) for _ in range(3))
    if device == "cuda":
        report.ratio("device: windows/s / 100,000", [rate / 100_000], 1)
    else:
        report.line(f"  device: no GPU here; the same code on CPU tensors {rate:,.0f} windows/s")


def worker_memory(data: fmfbench.Dataset, report: Report) -> None:
    """Memory of two worker processes over ten epochs."""
    dataset = WindowDataset(data.windows("test", "paper", every=20))
    loader = make_loader(dataset, BATCH, shuffle=True, num_workers=2, start_method="fork")
    sizes = []
    for epoch in range(10):
        loader.set_epoch(epoch)
        drain(loader)
        assert loader._loader is not None
        workers = loader._loader._iterator._workers
        sizes.append(sum(resident_mb(w.pid) for w in workers))
    report.line(f"  workers' resident memory by epoch, MB: {' '.join(f'{s:.0f}' for s in sizes)}")
    report.ratio("workers' memory: epoch 3 / epoch 10", [sizes[2] / sizes[9]], 0.95)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", help="memory, disk, loaders, blocks, device, workers")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message="This DataLoader will create")
    only = options.only or ["memory", "disk", "loaders", "blocks", "device", "workers"]
    torch.set_num_threads(1)  # the plain Dataset at its best: with two, its small copies are slower
    report = Report()
    data = fmfbench.open_dataset(recordings.store())
    windows = data.windows("train", "paper", cache="memory")
    report.line(f"FMF-Sim, tiled: {len(windows)} windows; {os.cpu_count()} cores")
    if "disk" in only:
        from_disk(data, options.rounds, report)
    if "workers" in only:
        worker_memory(data, report)
    if "memory" in only:
        in_memory(windows, options.rounds, report)
    if "loaders" in only:
        loaders(windows, data, options.rounds, report)
    if "blocks" in only:
        out_of_core(data, windows, max(1, options.rounds // 2), report)
    if "device" in only:
        on_device(windows, report)
    if report.short:
        report.line(f"{len(report.short)} short of target: {'; '.join(report.short)}")
    return 1 if report.short else 0


if __name__ == "__main__":
    sys.exit(main())
