"""FmFormer over many windows, as `predict` runs it: windows a second at batch 64, and where the time goes.

    python benchmarks/inference.py [--preset paper|official] [--engine torch|onnx] [--threads 2] [--batches 4] [--json]

The windows are noise, in memory already: reading them is measured in `windows.py`. Wall time counts on an idle machine
alone; processor seconds are told beside it. `total_minutes` is for the 50,000 windows of the real test split.
"""

from __future__ import annotations

import argparse
import json
import time

import torch

from fmfbench_models import create_model
from fmfbench_models.inference.engine import make_engine

BATCH, WINDOWS = 64, 50_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=["paper", "official"], default="paper")
    parser.add_argument("--engine", choices=["torch", "onnx"], default="torch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    model = create_model("fmformer", preset=None if asked.preset == "paper" else asked.preset).eval()
    config = model.meta.config
    video = torch.randint(
        0, 256, (BATCH, 3, config["num_frames"], *config["size"]), dtype=torch.uint8
    ).contiguous(memory_format=torch.channels_last_3d)
    current = 8000 + 500 * torch.randn(BATCH, config["current_length"], 3)
    engine = make_engine(model, asked.engine)
    batch = {"video": video, "current": current}
    with torch.inference_mode():
        engine(batch)
        began, used = time.perf_counter(), time.process_time()
        for _ in range(asked.batches):
            output = engine(batch)
            output.scores()
            output.masks()
        wall, used = time.perf_counter() - began, time.process_time() - used
        profile = []
        if asked.engine == "torch":
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
                engine(batch)
            rows = seen.key_averages()
            total = sum(row.self_cpu_time_total for row in rows)
            largest = sorted(rows, key=lambda row: -row.self_cpu_time_total)[:8]
            profile = [(row.key, round(row.self_cpu_time_total / total, 3)) for row in largest]
    count = asked.batches * BATCH
    found = {
        "preset": asked.preset,
        "engine": asked.engine,
        "threads": asked.threads,
        "windows": count,
        "windows_a_second": round(count / wall, 2),
        "processor_ms_a_window": round(1000 * used / count, 2),
        "total_minutes": round(WINDOWS * wall / count / 60, 1),
        "total_processor_minutes": round(WINDOWS * used / count / 60, 1),
        "profile": profile,
    }
    if asked.json:
        print(json.dumps(found))
        return
    print(
        f"{asked.preset}, {asked.engine}, {asked.threads} threads: {found['windows_a_second']} windows/s, "
        f"{found['processor_ms_a_window']} processor ms a window; {WINDOWS:,} windows: {found['total_minutes']} min, "
        f"{found['total_processor_minutes']} processor min"
    )
    for name, share in profile:
        print(f"  {share:6.1%}  {name}")


if __name__ == "__main__":
    main()
