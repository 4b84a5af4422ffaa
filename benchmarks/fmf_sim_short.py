"""What FmFormer learns of FMF-Sim within 2,000 steps: video, current and both on windows drawn one by one.

    python benchmarks/fmf_sim_short.py train --seeds 5,6,7 --row visual --out results     likewise the other rows
    python benchmarks/fmf_sim_short.py table --seeds 5,6,7 --out results

One model of each row is trained on the train windows of all the seeds, and judged on the test windows of each; rows of
both modalities whole, with the video lost and with the current lost; `summed` adds the logits of the two rows of one
modality. A window has FRAMES frames, SECONDS s of current.
Windows are spread evenly over train and test of all recordings of preset full and drawn directly, without a store;
sensor noise is that of single frames, all else is what `fmfbench simulate` writes.
Beside FmFormer stand boosting on the current and two constants. Controls: `twin` shows the same times of a furnace
without anomaly and signature, `covered` paints over the place of the nearest event in every frame, `moved` sets the
labels half a test block later. Intervals: resamples of blocks of BLOCK_SECONDS of test time, of all seeds pooled.

Unlike the paper's, training starts with the pixel head at the share of abnormal pixels (as Lin et al., "Focal loss for
dense object detection", 2017, section 3.3) and with a class term of weight ALPHA, for within some hundred steps it
learns nothing of spots of a few pixels otherwise. All of it is on FMF-Sim and says nothing about real furnaces.
"""

from __future__ import annotations

import argparse
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from fmf_sim_statistics import current_features
from scipy.special import expit, logit
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from fmfbench.furnace import NAME, VERSION, labelling, render
from fmfbench.furnace.plan import PRESETS, Plan, make_plan
from fmfbench_models import create_model
from fmfbench_models.interface import Model
from fmfbench_models.parts.augmentation import augment
from fmfbench_models.parts.blocks import TokenDecoder
from fmfbench_models.recipe import Recipe
from fmfbench_models.training.average import WeightAverage
from fmfbench_models.training.step import make_optimiser, make_step

Array = npt.NDArray[Any]

FRAMES, STRIDE = 2, 18
SECONDS, HZ = 20, 2  # of current, unless --seconds says otherwise
LONGEST = 220  # s of current that are drawn
HORIZONS = (5, 20, 60)
TRAIN, TEST = 6_000, 1_800  # windows of a seed
BATCH, RATE, WARMUP = 64, 6e-3, 100  # steps in which the rate rises
CLIP, EMA = 1.0, 0.995  # of the gradient's norm, of the weights that are judged
CURVE = 50  # steps over which the losses kept are averaged
SHIFT, JITTER = 8, 0.2
ALPHA = 0.05  # weight of the class term: few pixels are abnormal, and at 1 their term is drowned
CURRENT_JITTER, DROPOUT = 0.1, 0.3
BLOCK_SECONDS = 60
BANDS = (0.0, 0.1, 0.5, 1.01)
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "current": ("fmformer", {"modality": "current"}),
    "visual": ("fmformer", {"modality": "visual"}),
    "both": ("fmformer", {"modality": "both", "use_validity": True}),
    "late_fusion": ("late_fusion", {}),
    "gated": ("gated", {}),
    "late_fusion_apart": ("late_fusion", {"trained": "apart"}),
}
SINGLE = ("current", "visual")
TOGETHER = ("both", "late_fusion", "gated")  # trained by a loss of both modalities, of which windows lose one
WORLDS = {"whole": "", "video lost": "video", "current lost": "current"}  # and what is lost there
MARGIN = 0.02  # accuracy that a row may lose to the better single modality of a world


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
    rows = np.clip(row[:, None] - np.arange(LONGEST * HZ)[::-1], 0, None)
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


def cut(windows: dict[str, Array], seconds: int) -> dict[str, Array]:
    """The same windows with the last `seconds` of their current."""
    if not 1 <= seconds <= LONGEST:
        raise SystemExit(f"--seconds: expected 1 to {LONGEST}, got {seconds}")
    return windows | {"current": windows["current"][:, -seconds * HZ :]}


def batch_of(windows: dict[str, Array], rows: Array, lost: str = "") -> dict[str, torch.Tensor]:
    """A batch as the loader makes it; of the modality `lost` ("video", "current") zeros, of which nothing is valid."""
    names = {"video": "video", "mask": "mask", "current": "current", "class_label": "label"}
    batch = {name: torch.from_numpy(windows[source][rows]) for name, source in names.items()}
    count = len(rows)
    batch |= {
        "video_valid": torch.ones(count, FRAMES, dtype=torch.bool),
        "current_valid": torch.ones(batch["current"].shape[:2], dtype=torch.bool),
        "mask_valid": torch.ones(count, dtype=torch.bool),
        "sample_id": torch.from_numpy(rows.astype(np.int64)),
    }
    gone = (lost, f"{lost}_valid") if lost else ()
    return batch | {name: torch.zeros_like(batch[name]) for name in gone}


def train(
    windows: dict[str, Array],
    row: str,
    seed: int,
    steps: int,
    *,
    rate: float = RATE,
    batch: int = BATCH,
    alpha: float = ALPHA,
    current_jitter: float = CURRENT_JITTER,
    dropout: float = DROPOUT,
) -> tuple[Model, float, Array]:
    """A model after `steps` updates, seconds of processor time a step, and the mean class loss of each CURVE steps."""
    torch.manual_seed(seed)
    name, options = ROWS[row]
    lengths = {"num_frames": FRAMES, "size": [64, 64], "current_length": windows["current"].shape[1]}
    model = create_model(name, preset="nano", **options, **lengths)
    rows = np.flatnonzero(windows["split"] == 0)
    known = windows["current"][rows].reshape(-1, 3)
    model.input_norm.set_current(known.mean(0).tolist(), known.std(0).tolist())
    if model.dense:  # else hundreds of steps pass until it says that most pixels are normal
        share = float(windows["mask"][rows].mean())
        decoder = next(part for part in model.modules() if isinstance(part, TokenDecoder))
        with torch.no_grad():
            decoder.out.bias.copy_(torch.tensor([0.0, np.log(share / (1.0 - share))]))
    recipe = Recipe(
        batch_size=batch,
        lr=rate,
        lr_steps=(),
        alpha=alpha,
        shift=SHIFT,
        jitter=JITTER,
        current_jitter=current_jitter,
        shuffle_phases=True,
        modality_dropout=dropout if row in TOGETHER else 0.0,
        clip=CLIP,
    )
    optimiser = make_optimiser(model, recipe)
    step = make_step(model.train(), optimiser, recipe)
    average = WeightAverage(model, EMA)
    order, epoch, at = np.zeros(0, int), -1, 0
    rng, losses = np.random.default_rng(seed), np.zeros(steps)
    started = time.process_time()
    for number in range(steps):
        if at + batch > len(order):
            order, epoch, at = rng.permutation(rows), epoch + 1, 0
        for group in optimiser.param_groups:  # a cosine to 0 after a short rise
            rising = min(1.0, (number + 1) / WARMUP)
            group["lr"] = rate * rising * 0.5 * (1.0 + np.cos(np.pi * number / steps))
        terms = step(
            augment(batch_of(windows, order[at : at + batch]), recipe, seed, epoch, transposed=False)
        )
        average.update(number + 1)
        losses[number] = float(terms["class_loss"])
        at += batch
    average.keep()
    curve = losses[: steps // CURVE * CURVE].reshape(-1, CURVE).mean(1)
    return model.eval(), (time.process_time() - started) / steps, curve


@torch.no_grad()
def judge(model: Model, windows: dict[str, Array], lost: str = "") -> dict[str, Array]:
    """Scores of the test windows, and pixels of either class that label and prediction share, and that either has.

    lost: the modality that is taken away, "video" or "current".
    """
    rows = np.flatnonzero(windows["split"] == 1)
    scores, pixels = [], []
    for part in np.array_split(rows, -(-len(rows) // 64)):
        batch = batch_of(windows, part, lost)
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
    parts = {seed: draw(seed, options.out) for seed in options.seeds}
    if options.row == "draw":  # the twins too, so that trainings that follow need not
        for seed in options.seeds if options.controls else []:
            draw(seed, options.out, twin=True)
        return
    parts = {seed: cut(own, options.seconds) for seed, own in parts.items()}
    model, seconds, curve = train(
        {
            name: np.concatenate([own[name][own["split"] == 0] for own in parts.values()])
            for name in ("video", "mask", "current", "label", "split")
        },
        options.row,
        options.seeds[0],
        options.steps,
        rate=options.rate,
        batch=options.batch,
        alpha=options.alpha,
        current_jitter=options.current_jitter,
        dropout=options.dropout,
    )
    seen = "" if options.seconds == SECONDS else f"-{options.seconds}s"
    for seed, windows in parts.items():
        found = judge(model, windows)
        extra = {}
        if options.row not in SINGLE:
            extra = {
                f"without_{lost}": judge(model, windows, lost)["score"] for lost in WORLDS.values() if lost
            }
        if options.controls:
            twin = cut(draw(seed, options.out, twin=True), options.seconds)
            extra["twin"] = judge(model, twin | {"split": np.ones_like(twin["split"])})["score"]
            if options.row != "current":
                extra["covered"] = judge(model, covered(windows))["score"]
        test = windows["split"] == 1
        kept = {name: windows[name][test] for name in ("label", "visibility", "frame", "recording")}
        np.savez(
            options.out / f"{options.row}{seen}-{seed}.npz",
            steps=options.steps,
            seconds=seconds,
            curve=curve,
            **found,
            **kept,
            **extra,
        )
        right = ((found["score"] > 0.5) == kept["label"]).mean()
        print(
            f"{options.row}{seen} {seed}: accuracy {right:.3f}, {seconds:.3f} s of processor a step",
            flush=True,
        )


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


def gain(
    first: list[dict[str, Array]], second: list[dict[str, Array]], low: float = 0.0, high: float = 1.01
) -> tuple[float, float, float]:
    """Accuracy of `first` less that of `second` where visibility is in [low, high), and its 95 % interval.

    The interval resamples blocks of test time.
    """
    differences, blocks = [], []
    for one, other in zip(first, second, strict=True):
        inside = (one["visibility"] >= low) & (one["visibility"] < high)
        right = [((own["score"] > 0.5) == own["label"])[inside].astype(float) for own in (one, other)]
        differences.append(right[0] - right[1])
        blocks.append((one["recording"] * 100_000 + one["frame"] // (25 * BLOCK_SECONDS))[inside])
    value, block = np.concatenate(differences), np.unique(np.concatenate(blocks), return_inverse=True)[1]
    sums, counts = np.bincount(block, value), np.bincount(block)
    drawn = np.random.default_rng(0).integers(len(sums), size=(4000, len(sums)))
    least, most = np.quantile(sums[drawn].sum(1) / counts[drawn].sum(1), [0.025, 0.975])
    return float(value.mean()), float(least), float(most)


def summed(visual: dict[str, Array], current: dict[str, Array]) -> dict[str, Array]:
    """Late fusion of the two trained rows: their logits added, those of a lost modality left out.

    That of FmFormer's Table IV; no training of its own.
    """

    def add(name: str) -> Array:
        parts = visual[name], current[name if name in current else "score"]
        logits = [logit(np.clip(part.astype(float), 1e-7, 1 - 1e-7)) for part in parts]  # none is certain
        return np.asarray(expit(sum(logits)))

    out = visual | {name: add(name) for name in ("score", "twin", "covered") if name in visual}
    return out | {"without_video": current["score"], "without_current": visual["score"]}


def worlds(found: dict[str, list[dict[str, Array]]]) -> list[dict[str, Any]]:
    """What each row of both modalities is worth whole, with the video lost and with the current lost.

    Args:
        found: of each row its judged test windows, seed by seed.

    Returns:
        For each row and world `accuracy`, of all seeds pooled, and `less`: (difference, low, high) of `gain` to each
        row of one modality that still has its input there; `holds`: no more than MARGIN below the better of them.
    """
    left = {"whole": SINGLE, "video lost": ("current",), "current lost": ("visual",)}
    out = []
    for name in (name for name in found if name not in (*SINGLE, "boosting")):
        for world, lost in WORLDS.items():
            own = [row if not lost else row | {"score": row[f"without_{lost}"]} for row in found[name]]
            right = np.concatenate([(row["score"] > 0.5) == row["label"] for row in own])
            less = {single: gain(own, found[single]) for single in left[world]}
            out.append(
                {
                    "row": name,
                    "world": world,
                    "accuracy": float(right.mean()),
                    "less": less,
                    "holds": min(value for value, _, _ in less.values()) >= -MARGIN,
                }
            )
    return out


def table(options: argparse.Namespace) -> None:
    there = [
        name
        for name in ROWS
        if name in SINGLE or all((options.out / f"{name}-{seed}.npz").exists() for seed in options.seeds)
    ]
    found: dict[str, list[dict[str, Array]]] = {name: [] for name in (*there, "summed", "boosting")}
    for seed in options.seeds:
        for name in there:
            with np.load(options.out / f"{name}-{seed}.npz") as file:
                found[name].append(dict(file))
        found["summed"].append(summed(found["visual"][-1], found["current"][-1]))
        windows = draw(seed, options.out)
        kept = {key: value for key, value in found["current"][-1].items() if key != "twin"}
        found["boosting"].append(kept | {"score": boosting(windows)})
    for name in there:
        print(f"{name}: {found[name][0]['steps']} steps, {found[name][0]['seconds']:.3f} s of processor each")
        print("  class loss, mean of each", CURVE, "steps:", np.round(found[name][0]["curve"], 3).tolist())
    print(f"{NAME} {VERSION}, preset full (simulated)\n")
    print(
        "| seed | model | accuracy | AUROC | mIoU | visibility < 0.1 | 0.1 to 0.5 | > 0.5 "
        "| constant | twin | covered | moved |\n|" + "---|" * 12
    )
    for k, seed in enumerate(options.seeds):
        for name, rows in found.items():
            own = figures(rows[k])
            print(
                f"| {seed} | {name} | {own['accuracy']:.3f} | {own['auroc']:.3f} | {text(own.get('miou'))} | "
                + " | ".join(
                    f"{value:.3f} ({n})" for value, n in zip(own["bands"], own["counts"], strict=True)
                )
                + f" | {own['constant']:.3f} | {text(own.get('twin'))} | {text(own.get('covered'))} "
                f"| {own['moved']:.3f} |"
            )
    crossing = [name for name in found if name not in (*SINGLE, "boosting")]
    for first, second in [(row, single) for row in crossing for single in SINGLE] + [("current", "boosting")]:
        value, low, high = gain(found[first], found[second])
        print(f"\n{first} less {second}, accuracy, all seeds: {value:+.4f} [{low:+.4f}, {high:+.4f}]")
        for band in pairwise(BANDS):
            value, low, high = gain(found[first], found[second], *band)
            print(f"  visibility {band[0]} to {min(band[1], 1.0)}: {value:+.4f} [{low:+.4f}, {high:+.4f}]")
    print("\nthree worlds, accuracy, all seeds pooled:")
    for own in worlds(found):
        less = ", ".join(
            f"less {single} {value:+.4f} [{low:+.4f}, {high:+.4f}]"
            for single, (value, low, high) in own["less"].items()
        )
        print(f"  {own['row']}, {own['world']}: {own['accuracy']:.4f}; {less}; holds: {own['holds']}")
    print("\nmean of the seeds:")
    for name, rows in found.items():
        each = [figures(row) for row in rows]
        bands = np.mean([own["bands"] for own in each], axis=0)
        print(
            f"  {name}: "
            + ", ".join(
                f"{key} {np.mean([own[key] for own in each]):.3f}"
                for key in ("accuracy", "auroc", "miou", "twin", "covered", "moved")
                if all(key in own for own in each)
            )
            + f", by visibility {', '.join(f'{value:.3f}' for value in bands)}"
        )
    for name, lengths in by_seconds(options.seeds, options.out).items():
        print(f"  {name} by the current it was trained on, accuracy: {lengths}")


def by_seconds(seeds: list[int], folder: Path) -> dict[str, str]:
    """Of the models that were trained on several lengths of current for every seed: mean accuracy by length."""
    out = {}
    for name in ("current", "both"):
        seen = {SECONDS} | {int(path.name.split("-")[1][:-1]) for path in folder.glob(f"{name}-*s-*.npz")}
        row = []
        for seconds in sorted(seen):
            middle = "" if seconds == SECONDS else f"-{seconds}s"
            paths = [folder / f"{name}{middle}-{seed}.npz" for seed in seeds]
            if all(path.exists() for path in paths):
                right = []
                for path in paths:
                    with np.load(path) as file:
                        right.append(((file["score"] > 0.5) == file["label"]).mean())
                row.append(f"{seconds} s {np.mean(right):.3f}")
        if len(row) > 1:
            out[name] = ", ".join(row)
    return out


def text(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def seeds_of(value: str) -> list[int]:
    return [int(part) for part in value.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("train")
    one.add_argument("--seeds", type=seeds_of, required=True, help="one model is trained on all of them")
    one.add_argument("--row", choices=[*ROWS, "draw"], required=True)
    one.add_argument("--steps", type=int, default=2_000)
    one.add_argument("--batch", type=int, default=BATCH)
    one.add_argument("--seconds", type=int, default=SECONDS, help="of current that is seen")
    one.add_argument("--rate", type=float, default=RATE, help="greatest learning rate")
    one.add_argument("--alpha", type=float, default=ALPHA, help="weight of the class term")
    one.add_argument("--current-jitter", type=float, default=CURRENT_JITTER)
    one.add_argument(
        "--dropout", type=float, default=DROPOUT, help="share of windows without one of two modalities"
    )
    one.add_argument("--controls", action="store_true")
    one.set_defaults(run=train_one)
    all_of = commands.add_parser("table")
    all_of.add_argument("--seeds", type=seeds_of, required=True)
    all_of.set_defaults(run=table)
    for command in (one, all_of):
        command.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
