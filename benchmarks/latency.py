"""Latency of the online detector for each new frame: one frame in, score and mask out.

    python benchmarks/latency.py [--preset official paper] [--threads 1] [--frames 60] [--class-only]
    [--engine torch onnx compiled] [--json]

A frame period is 40 ms at 25 frames a second. Frames are fed as fast as they are judged; currents at 2 Hz before the
frames that follow them. What is timed is `Detector.frame`, window assembly included.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import replace

import numpy as np
import torch

from fmfbench.windows.protocol import get_protocol
from fmfbench_models import create_model
from fmfbench_models.detector import Detector
from fmfbench_models.inference.engine import EngineName

PERIOD_NS = 40_000_000


def measure(
    preset: str, frames: int, size: tuple[int, int], task: dict[str, bool], engine: EngineName
) -> dict[str, float]:
    torch.manual_seed(0)
    protocol = get_protocol(preset)
    lengths = {"num_frames": protocol.num_frames, "size": list(size), "current_length": protocol.num_current}
    model = create_model("fmformer", preset=preset, **lengths, **task)
    model.meta = replace(model.meta, protocol=protocol.to_dict())
    detector = Detector(model, engine=engine)
    rng = np.random.default_rng(0)
    history = (protocol.num_frames - 1) * protocol.stride
    start = 300 * 1_000_000_000  # currents reach back before the first frame
    for k in range(600):
        detector.current(k * 500_000_000, rng.normal(8000, 500, 3))
    images = rng.integers(0, 256, (32, *size, 3), dtype=np.uint8)
    for k in range(history):  # as if the camera had been running: these are not judged
        detector._frames.append(images[k % 32])
        detector._frame_time.append(start + k * PERIOD_NS)
    taken = []
    for k in range(history, history + frames + 5):
        began = time.perf_counter()
        detector.frame(start + k * PERIOD_NS, images[k % 32])
        taken.append(1000 * (time.perf_counter() - began))
    taken = sorted(taken[5:])
    return {
        "median_ms": statistics.median(taken),
        "p95_ms": taken[int(0.95 * (len(taken) - 1))],
        "best_ms": taken[0],
        "parameters": model.num_parameters(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", nargs="+", default=["official", "paper"], choices=["official", "paper"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--size", type=int, nargs=2, default=(64, 64), metavar=("H", "W"))
    parser.add_argument(
        "--class-only", action="store_true", help="without the dense head, as the released checkpoint"
    )
    parser.add_argument(
        "--engine", nargs="+", default=["torch", "onnx"], choices=["torch", "onnx", "compiled"]
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    task = {"dense_task": False} if options.class_only else {}
    rows = [
        {"preset": preset, "engine": engine}
        | measure(preset, options.frames, tuple(options.size), task, engine)
        for preset in options.preset
        for engine in options.engine
    ]
    if options.json:
        print(json.dumps({"threads": options.threads, "torch": torch.__version__, "rows": rows}))
        return
    heads = "the class head" if options.class_only else "both heads"
    print(
        f"FmFormer with {heads}, batch 1, float32, {options.threads} CPU thread(s), torch {torch.__version__}"
    )
    for row in rows:
        print(
            f"  {row['preset']:9s} {row['engine']:9s} median {row['median_ms']:6.1f} ms   "
            f"95th percentile {row['p95_ms']:6.1f} ms   best {row['best_ms']:6.1f} ms   "
            f"(a frame period is 40 ms)"
        )


if __name__ == "__main__":
    main()
