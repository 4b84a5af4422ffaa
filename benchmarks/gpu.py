"""Everything that needs a GPU, in one call of nine minutes.

    fmfbench simulate furnace --preset full && fmfbench convert furnace full.zarr
    python benchmarks/gpu.py --data full.zarr --out gpu [--seconds 540] [--device cuda]

In this order, each part written into OUT/gpu.json as soon as it is known, so that a call that is cut off has told what
it knew: the step rate beside a plain reading of the authors' modules (`fmformer.py`), ST-MAE's inference (`st_mae.py`),
windows a second resident on the device, the time of an epoch of FmFormer at the paper's size, and then FmFormer itself:
trained for as many epochs as fit into what is left (or on every k-th sample where not one does), predicted once a
second and scored. A part that fails says why, and the next one begins. Goals: 100,000 windows a second, 5 times the
plain modules' steps, an epoch in 40 s, 33.2 ms an image.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import fmfbench
from fmfbench.torch import WindowDataset, make_loader
from fmfbench_models.inference.predict import predict
from fmfbench_models.registry import create_model
from fmfbench_models.training.settings import make_settings
from fmfbench_models.training.step import make_optimiser, make_step, to_device
from fmfbench_models.training.train import train

HERE = Path(__file__).parent
SHARES = {"fmformer.py": 0.15, "st_mae.py": 0.1, "windows": 0.05, "epoch": 0.1}  # of the time, at most
LEFT_FOR_SCORE = 0.1  # of the time, after training
LEAST_TRAINING = 0.1  # of the time, where the parts before took all of it


def script(name: str, seconds: float, *arguments: str) -> dict[str, Any]:
    """What another benchmark says as JSON."""
    done = subprocess.run(
        [sys.executable, str(HERE / name), *arguments, "--json"],
        capture_output=True, text=True, timeout=seconds, check=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def windows_a_second(
    data: fmfbench.Dataset, protocol: str, device: torch.device, batch: int, seconds: float
) -> dict[str, Any]:
    """Batches of the train split, drawn from recordings that lie on the device (on a CPU, in memory)."""
    cache = "device" if device.type == "cuda" else "memory"
    loader = make_loader(
        WindowDataset(data.windows("train", protocol, cache=cache)), batch_size=batch, shuffle=True
    )
    next(iter(loader))
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        for found in loader:
            count += len(found["sample_id"])
            if time.perf_counter() - began >= seconds:
                break
    wait(device)
    return {"cache": cache, "batch": batch, "windows_a_second": count / (time.perf_counter() - began)}


def epoch_seconds(
    data: fmfbench.Dataset, options: dict[str, Any], protocol: str, device: torch.device, seconds: float
) -> dict[str, Any]:
    """An epoch of FmFormer, both modalities: from so many whole steps as fit, reading included."""
    settings = make_settings("fmformer", data, options=options, protocol=protocol)
    recipe = settings.recipe
    model = create_model("fmformer", **settings.config).to(device).train()
    step = make_step(model, make_optimiser(model, recipe), recipe)
    cache = "device" if device.type == "cuda" else "memory"
    windows = data.windows("train", settings.protocol, cache=cache)
    loader = make_loader(WindowDataset(windows), batch_size=recipe.batch_size, shuffle=True, drop_last=True)
    step(to_device(next(iter(loader)), device))
    wait(device)
    steps, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        for batch in loader:
            step(to_device(batch, device))
            steps += 1
            if time.perf_counter() - began >= seconds:
                break
    wait(device)
    rate = steps / (time.perf_counter() - began)
    count = len(windows) // recipe.batch_size
    return {"batch": recipe.batch_size, "steps_a_second": rate, "steps": count, "epoch_seconds": count / rate}


def trained(
    data: fmfbench.Dataset, out: Path, options: dict[str, Any], protocol: str, device: str, seconds: float,
    epoch: float,
) -> dict[str, Any]:  # fmt: skip
    """FmFormer for as long as there is time, and what it is worth."""
    epochs = max(1, int(seconds / epoch))
    every = max(1, math.ceil(epoch / seconds))
    lasts = {"epochs": epochs, "every": every, "validate": False, "lr_steps": [max(1, round(epochs * 2 / 3))]}
    began = time.perf_counter()
    run = train(
        "fmformer",
        data,
        out / "run",
        options={**options, **lasts},
        protocol=protocol,
        device=device,
        cache="memory",
    )
    spent = time.perf_counter() - began
    predictions = predict(run, data, out / "predictions.npz", device=device, per_second=True)
    scored = fmfbench.score(predictions, data, per_second=True)
    return {
        "epochs": epochs,
        "every": every,
        "train_seconds": spent,
        "simulated": data.simulated,
        "metrics": dict(scored.metrics),
    }


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=540)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--protocol", default="paper")
    parser.add_argument("--preset", default="paper", help="of FmFormer: paper, or nano to try the script")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument(
        "--only", nargs="*", default=[*SHARES, "fmformer"], help=", ".join([*SHARES, "fmformer"])
    )
    options = parser.parse_args()
    began = time.perf_counter()
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("expected a GPU for --device cuda, got none; --device cpu tries the script")
    device = torch.device(options.device)
    options.out.mkdir(parents=True, exist_ok=True)
    data = fmfbench.open_dataset(options.data)
    settings = {"preset": options.preset, "batch_size": options.batch}
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "CPU",
        "torch": torch.__version__,
        "data": data.name,
        "simulated": data.simulated,
        "parts": {},
    }

    def part(name: str, work: Callable[[float], dict[str, Any]], seconds: float) -> dict[str, Any]:
        started = time.perf_counter()
        try:
            result = work(seconds)
        except Exception as error:  # what it says is the result, and the other parts are still wanted
            result = {"failed": " ".join(str(error).split())[:300]}
        result["took"] = round(time.perf_counter() - started, 1)
        found["parts"][name] = result
        (options.out / "gpu.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        print(name, json.dumps(result), flush=True)
        return result

    shares = {name: share * options.seconds for name, share in SHARES.items()}
    for name in [name for name in ("fmformer.py", "st_mae.py") if name in options.only]:
        arguments = ["--device", options.device, "--rounds", "3"]
        more = ["--batch", str(options.batch)] if name == "fmformer.py" else []
        part(name, lambda s, name=name, all=(*arguments, *more): script(name, s, *all), shares[name])
    if "windows" in options.only:
        part(
            "windows",
            lambda s: windows_a_second(data, options.protocol, device, options.batch, s),
            shares["windows"],
        )
    epoch = {}
    if {"epoch", "fmformer"} & set(options.only):
        epoch = part(
            "epoch", lambda s: epoch_seconds(data, settings, options.protocol, device, s), shares["epoch"]
        )
    left = (1 - LEFT_FOR_SCORE) * options.seconds - (time.perf_counter() - began)
    left = max(left, LEAST_TRAINING * options.seconds)
    if "epoch_seconds" in epoch and "fmformer" in options.only:
        part(
            "fmformer",
            lambda s: trained(
                data, options.out, settings, options.protocol, options.device, s, epoch["epoch_seconds"]
            ),
            left,
        )
    print(f"{time.perf_counter() - began:.0f} s of {options.seconds:.0f}")
    return int(any("failed" in result for result in found["parts"].values()))


if __name__ == "__main__":
    sys.exit(main())
