"""What FmFormer learns of FMF-Sim within minutes: video, current and both on windows drawn one by one.

    python benchmarks/fmf_sim_short.py train --seed 5 --modality visual --out results     likewise current, both
    python benchmarks/fmf_sim_short.py table --seeds 5,6,7 --out results

A window has FRAMES frames, SECONDS s of current. Windows are spread evenly over train and test of all recordings of
preset full and drawn directly, without a store; sensor noise is that of single frames, all else is what
`fmfbench simulate` writes. Beside FmFormer stand boosting on the current and two constants. Controls: `twin` shows the
same times of a furnace without anomaly and signature, `covered` paints over the place of the nearest event in every
frame, `moved` sets the labels half a test block later. Intervals: resamples of blocks of BLOCK_SECONDS of test time,
of all seeds pooled. All of it is on FMF-Sim and says nothing about real furnaces.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from fmf_sim_statistics import current_features
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from fmfbench.furnace import NAME, VERSION, labelling, render
from fmfbench.furnace.plan import PRESETS, Plan, make_plan
from fmfbench_models import create_model
from fmfbench_models.interface import Model
from fmfbench_models.parts.augmentation import augment
from fmfbench_models.recipe import Recipe
from fmfbench_models.training.step import make_optimiser, make_step

Array = npt.NDArray[Any]

FRAMES, STRIDE = 2, 18
SECONDS, HZ = 60, 2
HORIZONS = (5, 20, 60)
TRAIN, TEST = 6_000, 1_800  # windows of a seed
BATCH, RATE = 32, 1e-3
SHIFT, JITTER = 8, 0.2
BLOCK_SECONDS = 60
BANDS = (0.0, 0.1, 0.5, 1.01)
MODALITIES = ("current", "visual", "both")


def draw(seed: int, folder: Path, *, twin: bool = False) -> dict[str, Array]:
    """Windows of one seed, drawn once and kept in `folder`."""
    path = folder / f"windows-{seed}{'-twin' if twin else ''}.npz"
    if path.exists():
        with np.load(path) as file:
            return dict(file)
    render.BLOCK_FRAMES, labelling.CHUNK = 1, 2  # a frame on its own
    size = PRESETS["full"]
    total = sum(own.frames for own in size.recordings)
    parts: dict[str, list[Array]] = {}
    for k, own in enumerate(size.recordings):
        plan = make_plan(size, k, seed)
        shown = make_plan(size, k, seed, anomaly_free=True) if twin else plan
        wanted = [(1, round(TEST * own.frames / total))] + (
            [] if twin else [(0, round(TRAIN * own.frames / total))]
        )
        frames = np.concatenate(
            [_spread(np.flatnonzero(plan.split == part), count) for part, count in wanted]
        )
        for name, value in _windows(render.Furnace(shown), plan, frames).items():
            parts.setdefault(name, []).append(value)
        parts.setdefault("recording", []).append(np.full(len(frames), 10 * seed + k))
    whole = {name: np.concatenate(values) for name, values in parts.items()}
    np.savez(path, **whole)  # type: ignore[arg-type]
    return whole


def _spread(frames: Array, count: int) -> Array:
    frames = frames[frames >= STRIDE * (FRAMES - 1)]
    return frames[np.linspace(0, len(frames) - 1, count).round().astype(int)]


def _windows(furnace: render.Furnace, plan: Plan, frames: Array) -> dict[str, Array]:
    video, mask, visibility, boxes = [], [], [], _nearest_boxes(plan, frames)
    for frame in frames.tolist():
        blocks = [furnace.draw_block(frame - STRIDE * back) for back in reversed(range(FRAMES))]
        video.append(np.stack([block.video[0] for block in blocks]).transpose(3, 0, 1, 2))
        mask.append(blocks[-1].label[0])
        visibility.append(blocks[-1].visibility[0])
    current = furnace.current
    row = np.searchsorted(current.time, plan.timing.frame_time[frames], side="right") - 1
    rows = np.clip(row[:, None] - np.arange(SECONDS * HZ)[::-1], 0, None)
    return {
        "video": np.stack(video),
        "mask": np.stack(mask),
        "visibility": np.array(visibility),
        "current": current.amperes[rows].astype(np.float32),
        "features": current_features(current.amperes, HORIZONS)[row],
        "label": plan.class_label[frames],
        "split": plan.split[frames],
        "frame": frames,
        "box": boxes,
    }


def _nearest_boxes(plan: Plan, frames: Array) -> Array:
    """(n, 4) x0, y0, x1, y1 of the hot place of the event nearest in time, 4 pixels wider on each side."""
    from fmfbench.furnace.anomaly import make_spots

    spots = make_spots(plan)
    ends = np.array([(own.event.onset, own.event.offset) for own in spots])
    away = np.maximum(np.maximum(ends[None, :, 0] - frames[:, None], frames[:, None] - ends[None, :, 1]), 0)
    boxes = np.array([own.box for own in spots])[away.argmin(axis=1)]
    return np.clip(boxes + np.array([-4, -4, 4, 4]), 0, [plan.width, plan.height] * 2)


def batch_of(windows: dict[str, Array], rows: Array) -> dict[str, torch.Tensor]:
    names = {"video": "video", "mask": "mask", "current": "current", "class_label": "label"}
    batch = {name: torch.from_numpy(windows[source][rows]) for name, source in names.items()}
    count = len(rows)
    return batch | {
        "video_valid": torch.ones(count, FRAMES, dtype=torch.bool),
        "current_valid": torch.ones(count, SECONDS * HZ, dtype=torch.bool),
        "mask_valid": torch.ones(count, dtype=torch.bool),
        "sample_id": torch.from_numpy(rows.astype(np.int64)),
    }


def train(windows: dict[str, Array], modality: str, seed: int, steps: int) -> tuple[Model, float]:
    """FmFormer nano after `steps` updates, and seconds a step."""
    torch.manual_seed(seed)
    lengths = {"num_frames": FRAMES, "size": [64, 64], "current_length": SECONDS * HZ}
    model = create_model("fmformer", preset="nano", modality=modality, **lengths)
    rows = np.flatnonzero(windows["split"] == 0)
    known = windows["current"][rows].reshape(-1, 3)
    model.input_norm.set_current(known.mean(0).tolist(), known.std(0).tolist())
    recipe = Recipe(batch_size=BATCH, lr=RATE, lr_steps=(), shift=SHIFT, jitter=JITTER, shuffle_phases=True)
    optimiser = make_optimiser(model, recipe)
    step = make_step(model.train(), optimiser, recipe)
    order, epoch, at = np.zeros(0, int), -1, 0
    rng = np.random.default_rng(seed)
    started = time.monotonic()
    for number in range(steps):
        if at + BATCH > len(order):
            order, epoch, at = rng.permutation(rows), epoch + 1, 0
        for group in optimiser.param_groups:  # a cosine to 0 after a short rise
            group["lr"] = RATE * min(1.0, (number + 1) / 50) * 0.5 * (1.0 + np.cos(np.pi * number / steps))
        step(augment(batch_of(windows, order[at : at + BATCH]), recipe, seed, epoch, transposed=False))
        at += BATCH
    return model.eval(), (time.monotonic() - started) / steps


@torch.no_grad()
def judge(model: Model, windows: dict[str, Array]) -> dict[str, Array]:
    """Scores of the test windows, and pixels of either class that label and prediction share, and that either has."""
    rows = np.flatnonzero(windows["split"] == 1)
    scores, pixels = [], []
    for part in np.array_split(rows, -(-len(rows) // 64)):
        batch = batch_of(windows, part)
        output = model(**model.takes(batch))
        scores.append(output.scores().numpy())
        if output.pixel_logits is not None:
            said, true = output.masks().bool().numpy(), windows["mask"][part].astype(bool)
            both, either = (f(said, true).sum((1, 2)) for f in (np.logical_and, np.logical_or))
            pixels.append(np.stack([both, either, said[0].size - either, said[0].size - both], axis=1))
    return {
        "score": np.concatenate(scores),
        "pixels": np.concatenate(pixels) if pixels else np.zeros((len(rows), 4)),
    }


def covered(windows: dict[str, Array]) -> dict[str, Array]:
    video = windows["video"].copy()
    for clip, (x0, y0, x1, y1) in zip(video, windows["box"], strict=True):
        clip[:, :, y0:y1, x0:x1] = clip.reshape(3, FRAMES, -1).mean(2)[..., None, None].astype(np.uint8)
    return windows | {"video": video}


def train_one(options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    windows = draw(options.seed, options.out)
    if options.modality == "draw":
        return
    model, seconds = train(windows, options.modality, options.seed, options.steps)
    found = judge(model, windows)
    extra = {}
    if options.controls:
        twin = draw(options.seed, options.out, twin=True)
        extra["twin"] = judge(model, twin | {"split": np.ones_like(twin["split"])})["score"]
        if options.modality != "current":
            extra["covered"] = judge(model, covered(windows))["score"]
    test = windows["split"] == 1
    kept = {name: windows[name][test] for name in ("label", "visibility", "frame", "recording")}
    np.savez(
        options.out / f"{options.modality}-{options.seed}.npz",
        steps=options.steps,
        seconds=seconds,
        **found,
        **kept,
        **extra,
    )
    right = ((found["score"] > 0.5) == kept["label"]).mean()
    print(f"{options.modality} {options.seed}: accuracy {right:.3f}, {seconds:.3f} s a step", flush=True)


def boosting(windows: dict[str, Array]) -> Array:
    trained, test = windows["split"] == 0, windows["split"] == 1
    model = HistGradientBoostingClassifier(
        max_iter=60, max_leaf_nodes=5, learning_rate=0.05, min_samples_leaf=50, random_state=0
    ).fit(windows["features"][trained], windows["label"][trained])
    return np.asarray(model.predict_proba(windows["features"][test])[:, 1])


def figures(found: dict[str, Array]) -> dict[str, Any]:
    right, label = (found["score"] > 0.5) == found["label"], found["label"]
    bands = pairwise(BANDS)
    inside = [(found["visibility"] >= low) & (found["visibility"] < high) for low, high in bands]
    out = {
        "accuracy": right.mean(),
        "auroc": roc_auc_score(label, found["score"]),
        "bands": [right[band].mean() for band in inside],
        "counts": [int(band.sum()) for band in inside],
        "constant": max(label.mean(), 1 - label.mean()),
        "moved": roc_auc_score(np.roll(label, len(label) // 2), found["score"]),
    }
    if "pixels" in found and found["pixels"].any():
        both, either, neither, rest = found["pixels"].sum(0)
        out["miou"] = (both / either + neither / rest) / 2
    for name in ("twin", "covered"):
        if name in found:
            out[name] = roc_auc_score(label, found[name])
    return out


def gain(first: list[dict[str, Array]], second: list[dict[str, Array]]) -> tuple[float, float, float]:
    """Accuracy of `first` less that of `second`, and its 95 % interval by blocks of test time."""
    differences, blocks = [], []
    for one, other in zip(first, second, strict=True):
        right = [((own["score"] > 0.5) == own["label"]).astype(float) for own in (one, other)]
        differences.append(right[0] - right[1])
        blocks.append(one["recording"] * 100_000 + one["frame"] // (25 * BLOCK_SECONDS))
    value, block = np.concatenate(differences), np.unique(np.concatenate(blocks), return_inverse=True)[1]
    sums, counts = np.bincount(block, value), np.bincount(block)
    drawn = np.random.default_rng(0).integers(len(sums), size=(4000, len(sums)))
    low, high = np.quantile(sums[drawn].sum(1) / counts[drawn].sum(1), [0.025, 0.975])
    return float(value.mean()), float(low), float(high)


def table(options: argparse.Namespace) -> None:
    found: dict[str, list[dict[str, Array]]] = {name: [] for name in (*MODALITIES, "boosting")}
    for seed in options.seeds:
        for name in MODALITIES:
            with np.load(options.out / f"{name}-{seed}.npz") as file:
                found[name].append(dict(file))
        windows = draw(seed, options.out)
        found["boosting"].append(found["current"][-1] | {"score": boosting(windows)})
    for name in MODALITIES:
        print(f"{name}: {found[name][0]['steps']} steps, {found[name][0]['seconds']:.3f} s each")
    print(f"{NAME} {VERSION}, preset full (simulated)\n")
    print(
        "| seed | model | accuracy | AUROC | mIoU | visibility < 0.1 | 0.1 to 0.5 | > 0.5 "
        "| constant | twin | covered | moved |\n|" + "---|" * 12
    )
    for k, seed in enumerate(options.seeds):
        for name, rows in found.items():
            own = figures(
                {key: value for key, value in rows[k].items() if name != "boosting" or key != "twin"}
            )
            print(
                f"| {seed} | {name} | {own['accuracy']:.3f} | {own['auroc']:.3f} | {text(own.get('miou'))} | "
                + " | ".join(
                    f"{value:.3f} ({n})" for value, n in zip(own["bands"], own["counts"], strict=True)
                )
                + f" | {own['constant']:.3f} | {text(own.get('twin'))} | {text(own.get('covered'))} "
                f"| {own['moved']:.3f} |"
            )
    for first, second in (("both", "visual"), ("both", "current"), ("current", "boosting")):
        value, low, high = gain(found[first], found[second])
        print(f"\n{first} less {second}, accuracy, all seeds: {value:+.4f} [{low:+.4f}, {high:+.4f}]")
    print(
        json.dumps(
            {name: np.mean([figures(row)["accuracy"] for row in rows]) for name, rows in found.items()}
        )
    )


def text(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("train")
    one.add_argument("--seed", type=int, required=True)
    one.add_argument("--modality", choices=[*MODALITIES, "draw"], required=True)
    one.add_argument("--steps", type=int, default=600)
    one.add_argument("--controls", action="store_true")
    one.set_defaults(run=train_one)
    all_of = commands.add_parser("table")
    all_of.add_argument("--seeds", type=lambda value: [int(part) for part in value.split(",")], required=True)
    all_of.set_defaults(run=table)
    for command in (one, all_of):
        command.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
