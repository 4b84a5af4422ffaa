"""What a store costs as it grows from 20,000 to 90 million frames: seconds and memory, each in a process of its own.

    python benchmarks/scale.py [--frames 20000,200000,2200000,90000000] [--skip-workers]

Stores are made of recordings of up to an hour (90,000 frames of 8x8 pixels, stamps that repeat on no grid, 2 rows of
current a second, class labels, no masks; seven tenths train, the rest test, and a strip between that is unused). All
recordings of a store are hard links to the files of one, so that 90 million frames take the disk space of an hour;
nothing here depends on what the files hold. Exit 1 where a target is missed. Reads memory from /proc: Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import fmfbench
from fmfbench.store.digest import seal
from fmfbench.store.fingerprint import LabelFacts, fingerprints
from fmfbench.store.schema import (
    ROOT,
    SCHEMA,
    SPLITS,
    current_spec,
    document_bytes,
    group_document,
    row_spec,
    time_spec,
    video_spec,
)
from fmfbench.store.shards import encode_shard

NS = 1_000_000_000
LONGEST = 90_000  # frames of a recording
FRAMES = "20000,200000,2200000,9000000,90000000"
# (what, frames) -> at most; MB of the whole process, or of one worker alone
TARGETS = {
    ("first batch s", 2_200_000): 1.0,
    ("first batch s", 90_000_000): 20.0,
    ("first batch MB", 90_000_000): 2000.0,
    ("fork worker MB", 90_000_000): 300.0,
    ("spawn worker more MB", 90_000_000): 300.0,
    ("score s", 2_200_000): 5.0,
    ("audit s", 2_200_000): 5.0,
}


def write_recording(folder: Path, frames: int) -> dict[str, np.ndarray]:
    """The files of one recording; its rows by name."""
    rng = np.random.default_rng(frames)
    # Nominally 40 ms apart, each read off a clock that trembles: no two recordings' grids, nor any grid at all.
    times = np.arange(frames) * (NS // 25) + rng.integers(-9_000_000, 9_000_000, frames) + 1_700_000_000 * NS
    rows = frames * 2 // 25
    split = np.zeros(frames, np.uint8)
    split[int(0.7 * frames) :] = SPLITS["unused"]
    split[int(0.7 * frames) + min(5525, frames // 10) :] = SPLITS["test"]
    label = ((np.arange(frames) // 700) % 3 == 0).astype(np.uint8)
    current = rng.normal(8000, 300, (rows, 3)).astype(np.float32)
    row_time = times[0] + np.arange(rows) * (NS // 2) + rng.integers(0, 1_000_000, rows)
    arrays = {
        "frame_time": (time_spec(frames, "frame", "clock"), times),
        "current": (current_spec(rows), current),
        "current_time": (time_spec(rows, "sample", "clock"), row_time),
        "split": (row_spec(frames, SPLITS), split),
        "class_label": (row_spec(frames, {"normal": 0, "abnormal": 1, "unlabelled": 255}), label),
        "video": (video_spec(frames, 8, 8), rng.integers(0, 255, (frames, 8, 8, 3), np.uint8)),
    }
    for name, (spec, values) in arrays.items():
        put(folder / name / ROOT, document_bytes(spec.to_document()))
        for index in range(spec.num_shards):
            first, last = spec.shard_range(index)
            put(folder / name / spec.shard_key(index), encode_shard(spec, values[first:last]))
    put(folder / "labels" / ROOT, document_bytes(group_document({})))
    counts = {name: int((split == code).sum()) for name, code in SPLITS.items()}
    attributes = {"fmfbench.counts": {"frames": frames, **counts}, "fmfbench.remarks": []}
    put(folder / ROOT, document_bytes(group_document(attributes)))
    return {name: values for name, (_, values) in arrays.items() if name != "video"}


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def make_store(path: Path, frames: int) -> Path:
    """A store of about `frames` frames, made once."""
    if path.exists():
        return path
    count = -(-frames // LONGEST)
    each = frames // count
    made = path.with_name(path.name + ".new")
    first = made / "recordings" / "run-0000"
    rows = write_recording(first, each)
    put(made / "recordings" / ROOT, document_bytes(group_document({})))
    files = [file.relative_to(first) for file in sorted(first.rglob("*")) if file.is_file()]
    folders = sorted({file.parent for file in files})
    for number in range(1, count):
        other = first.with_name(f"run-{number:04d}")
        for folder in folders:
            (other / folder).mkdir(parents=True, exist_ok=True)
        for file in files:
            os.link(first / file, other / file)
    facts = (
        LabelFacts(
            name=f"run-{number:04d}",
            num_frames=each,
            height=8,
            width=8,
            split=rows["split"],
            class_label=rows["class_label"],
        )
        for number in range(count)
    )
    attributes = {
        "fmfbench.schema": SCHEMA,
        "fmfbench.name": path.stem,
        "fmfbench.created_by": "benchmarks/scale.py",
        "fmfbench.layout": "v2",
        "fmfbench.options": {},
        "fmfbench.sources": [{"path": "simulated", "size": 0, "sha256": "0" * 64}],
        "fmfbench.default_layer": None,
        "fmfbench.fingerprint": fingerprints(facts)["source"],
    }
    put(made / ROOT, seal(made, attributes))
    made.rename(path)
    return path


def rss_mb(pid: int | str = "self", entry: str = "VmHWM") -> float:
    """The most memory that a process has had, or `entry` of its status."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(entry):
            return int(line.split()[1]) / 1000
    raise AssertionError(entry)


def own_mb(pid: int) -> float:
    """Memory that a process shares with no other."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1000


# --- each in a process of its own


def first_batch(store: str) -> dict[str, float]:
    """`windows("train")`, a shuffled loader and its first batch, then 20 more."""
    from fmfbench.torch import WindowDataset, make_loader

    before = rss_mb(entry="VmRSS")
    start, used = time.perf_counter(), time.process_time()
    windows = fmfbench.open_dataset(store).windows("train")
    made = time.perf_counter()
    batches = iter(make_loader(WindowDataset(windows), shuffle=True))
    next(batches)
    first, first_used = time.perf_counter(), time.process_time()
    for _ in range(20):
        next(batches)
    more, more_used = time.perf_counter(), time.process_time()
    return {
        "windows s": made - start,
        "first batch s": first - start,
        "first batch processor s": first_used - used,
        "batch ms": (more - first) / 20 * 1000,
        "batch processor ms": (more_used - first_used) / 20 * 1000,
        "first batch MB": rss_mb(),
        "imports MB": before,
    }


def block_shuffle(store: str) -> dict[str, float]:
    """The first batch of an epoch shuffled by blocks."""
    from fmfbench.torch import WindowDataset, make_loader

    start = time.perf_counter()
    windows = fmfbench.open_dataset(store).windows("train")
    batches = iter(make_loader(WindowDataset(windows), shuffle="block", buffer_bytes=256 << 20))
    next(batches)
    return {"block s": time.perf_counter() - start, "block MB": rss_mb()}


def workers(store: str) -> dict[str, float]:
    """What a worker process of a shuffled loader has for itself after 20 batches; "bare" is one that only imports."""
    import multiprocessing

    from fmfbench.torch import WindowDataset, make_loader

    found = {"spawned bare MB": bare_spawned_mb()}
    for method in ("fork", "spawn"):
        windows = fmfbench.open_dataset(store).windows("train")
        loader = make_loader(WindowDataset(windows), shuffle=True, num_workers=2, start_method=method)
        start = time.perf_counter()
        batches = iter(loader)
        next(batches)
        found[f"{method} s"] = time.perf_counter() - start
        for _ in range(20):
            next(batches)
        found[f"{method} worker MB"] = max(
            own_mb(child.pid or 0) for child in multiprocessing.active_children()
        )
        del batches, loader
    found["spawn worker more MB"] = found["spawn worker MB"] - found["spawned bare MB"]
    return found


def bare_spawned_mb() -> float:
    """What a spawned process has for itself that imports torch and fmfbench, and does nothing."""
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_import_and_wait, args=(there,))
    process.start()
    here.recv()
    found = own_mb(process.pid or 0)
    here.send(None)
    process.join()
    return found


def _import_and_wait(pipe: Any) -> None:
    import fmfbench.torch  # noqa: F401

    pipe.send(None)
    pipe.recv()


def score(store: str) -> dict[str, float]:
    """Score a prediction file of all frames, without masks, with intervals and events."""
    data = fmfbench.open_dataset(store)
    ids = data.sample_ids("all")
    rng = np.random.default_rng(0)
    labels = data.class_labels(ids)
    drift = np.repeat(rng.normal(0, 0.2, -(-len(ids) // 100)), 100)[
        : len(ids)
    ]  # errors that last, as a model's do
    scores = np.clip(0.3 + 0.4 * labels + drift + rng.normal(0, 0.05, len(ids)), 0, 1).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        file = fmfbench.write_predictions(Path(folder) / "p.npz", sample_id=ids, score=scores)
        start, used = time.perf_counter(), time.process_time()
        fmfbench.score(file or Path(folder) / "p.npz", store, split="all")
        own = {"score s": time.perf_counter() - start, "score processor s": time.process_time() - used}
        return {**own, "score MB": rss_mb()}


def audited(store: str) -> dict[str, float]:
    """`fmfbench audit`, near-duplicates included."""
    from fmfbench.windows.audit import audit

    start, used = time.perf_counter(), time.process_time()
    audit(fmfbench.open_dataset(store))
    own = {"audit s": time.perf_counter() - start, "audit processor s": time.process_time() - used}
    return {**own, "audit MB": rss_mb()}


PROBES = {probe.__name__: probe for probe in (first_batch, block_shuffle, workers, score, audited)}


def measured(probe: str, store: Path, limit: float) -> dict[str, float]:
    """A probe's figures, from a process of its own."""
    command = [sys.executable, __file__, "--probe", probe, "--store", str(store)]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        print(f"  {probe}: more than {limit:g} s", flush=True)
        return {}
    if done.returncode:
        print(f"  {probe}: failed: {done.stderr.strip().splitlines()[-1:]}", flush=True)
        return {}
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def table(rows: dict[int, dict[str, float]]) -> None:
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    print("\n| frames | " + " | ".join(columns) + " |\n|---" * 1 + "|---" * len(columns) + "|")
    for frames, row in rows.items():
        shown = [
            f"{row[c]:,.2f}" if row.get(c, 100.0) < 100 else f"{row[c]:,.0f}" if c in row else "-"
            for c in columns
        ]
        print(f"| {frames:,} | " + " | ".join(shown) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", default=FRAMES)
    parser.add_argument("--probes", default=",".join(PROBES))
    parser.add_argument("--limit", type=float, default=300.0, help="seconds for one measurement")
    parser.add_argument("--probe", choices=PROBES, help=argparse.SUPPRESS)
    parser.add_argument("--store", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.probe:
        print(json.dumps(PROBES[options.probe](options.store)))
        return
    material = Path(os.environ.get("FMFBENCH_MATERIAL", Path(tempfile.gettempdir()) / "fmfbench-material"))
    rows: dict[int, dict[str, float]] = {}
    missed: list[str] = []
    for frames in map(int, options.frames.split(",")):
        store = make_store(material / f"scale-{frames}.zarr", frames)
        row: dict[str, float] = {}
        for probe in options.probes.split(","):
            row |= measured(probe, store, options.limit)
        rows[frames] = row
        print(f"{frames:,}: " + ", ".join(f"{k} {v:.2f}" for k, v in row.items()), flush=True)
    table(rows)
    for (name, frames), most in TARGETS.items():
        for column, value in rows.get(frames, {}).items():
            if column.endswith(name):
                good = value <= most
                missed += [] if good else [f"{column} at {frames:,}"]
                print(
                    f"{column} at {frames:,}: {value:.2f}, target at most {most:g}: {'met' if good else 'MISSED'}"
                )
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
