"""What trained networks say of FMF-Sim: difficulty, where it lies, and whether the label leaks. Tables and two figures.

    fmfbench simulate furnace --preset full           and  fmfbench convert furnace full.zarr
    fmfbench simulate twin --preset full --twin       and  fmfbench convert twin twin.zarr
    fmfbench train fmformer --data full.zarr --out runs/visual --set modality=visual ...   likewise current, both
    python benchmarks/fmf_sim_models.py --data full.zarr --twin twin.zarr --truth furnace/truth --runs runs --out OUT

runs/ holds the run folders visual, current and both, and any number of current-SECONDS: the current alone, trained on
windows of that length. "Logits added" is `fuse_unimodal` of visual and current: nothing is trained for it. Every figure
is of the last test sample of each second. What is written: OUT/fmf_sim.md, .json, windows.png, visibility.png, and the
prediction files, which a second call reads again.

The controls, all with the weights as they are:
- twin: windows of the same furnace without any anomaly, judged against the labels of the furnace with them;
- moved labels: the scores against the labels of another time, each recording's rolled by every whole 5 s from 30 s on;
- covered: in each frame of a window the abnormal region of its last frame, grown by 6 pixels, takes the mean colour of
  the ring around it; the same places are covered in normal windows.
All of it is on FMF-Sim and says nothing about real furnaces.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import matplotlib as mpl
import numpy as np
import torch
from scipy import ndimage
from sklearn.metrics import roc_auc_score

import fmfbench
from fmfbench.data import Dataset
from fmfbench.exchange.predictions import read_predictions
from fmfbench.scoring.compare import compare
from fmfbench.scoring.score import score
from fmfbench.windows.protocol import get_protocol
from fmfbench_models import load_checkpoint
from fmfbench_models.inference.predict import model_protocol, predict
from fmfbench_models.interface import Model
from fmfbench_models.zoo.fmformer import FmFormer, fuse_unimodal

MODELS = ("current", "visual", "both")
FUSED = "fused"
TITLES = {
    "current": "current alone",
    "visual": "video alone",
    "both": "video and current",
    FUSED: "both, logits added",
}
COLOURS = {
    "current": "#c46a1b",
    "visual": "#2a6f97",
    "both": "#3a3a3a",
    FUSED: "#9a9a9a",
    "current alone, trained on each": "#e8a86a",
}
SECONDS = (5, 20, 55, 110, 220)  # of current
FRAMES = (2, 4, 6, 10, 12)
BANDS = ("below 0.1", "0.1 to 0.5", "0.5 to 0.9", "above 0.9")
GROWN, RING = 6, 3  # pixels


def prediction(folder: Path, name: str, model: Model, data: Dataset, **options: Any) -> Path:
    """The file NAME.npz, made unless it is there from these weights and these data."""
    path = folder / f"{name}.npz"
    seen = options.get("protocol", model_protocol(model)).to_dict()
    made = hashlib.sha256(json.dumps([seen, data.fingerprint, data.sources_digest]).encode())
    for key, value in model.state_dict().items():
        made.update(key.encode() + value.numpy().tobytes())
    if not path.is_file() or read_predictions(path).meta.get("made_of") != made.hexdigest():
        predict(
            model, data, path, per_second=True, device="cpu", meta={"made_of": made.hexdigest()}, **options
        )
    return path


def cover(places: dict[int, Any]):
    """A transform that hides the region of `places` (by sample id) in all frames of a window."""

    def transform(sample: dict[str, torch.Tensor], _generator: Any = None) -> dict[str, torch.Tensor]:
        place = places.get(int(sample["sample_id"]))
        if place is None:
            return sample
        inner, ring = place
        video = sample["video"].clone()
        around = video[:, :, torch.from_numpy(ring)].float().mean(-1, keepdim=True)
        video[:, :, torch.from_numpy(inner)] = around.round().to(video.dtype)
        return sample | {"video": video}

    return transform


def covered_places(data: Dataset, ids: np.ndarray) -> dict[int, Any]:
    """For abnormal samples their own region; for a normal one that of an abnormal sample of the same recording."""
    rng = np.random.default_rng(0)
    recording, frame = data.locate(ids)
    names = list(data.recordings)
    labels, out = data.class_labels(ids), {}
    for number, name in enumerate(names):
        own = np.flatnonzero(recording == number)
        abnormal = own[labels[own] == 1]
        masks = {
            i: data.recordings[name].read_masks(int(frame[i]), int(frame[i]) + 1)[0] > 0 for i in abnormal
        }
        for i in own:
            mask = masks[i] if i in masks else masks[rng.choice(abnormal)]
            inner = ndimage.binary_dilation(mask, iterations=GROWN)
            ring = ndimage.binary_dilation(inner, iterations=RING) & ~inner
            if mask.any() and ring.any():
                out[int(ids[i])] = (inner, ring)
    return out


def moved_label_auroc(data: Dataset, path: Path) -> tuple[float, float, int]:
    """AUROC against labels of other times: mean, standard deviation and number of rolls."""
    found = read_predictions(path)
    recording, _ = data.locate(found.sample_id)
    labels = data.class_labels(found.sample_id)
    shortest = int(np.bincount(recording).min())
    values = []
    for roll in range(30, shortest - 30, 5):
        rolled = np.concatenate([np.roll(labels[recording == r], roll) for r in np.unique(recording)])
        order = np.concatenate([np.flatnonzero(recording == r) for r in np.unique(recording)])
        values.append(roc_auc_score(rolled, found.score[order]))
    return float(np.mean(values)), float(np.std(values)), len(values)


def auroc_against(labels: np.ndarray, path: Path) -> tuple[float, float]:
    """AUROC and the share called abnormal."""
    found = read_predictions(path)
    return float(roc_auc_score(labels, found.score)), float((found.score > 0.5).mean())


def by_sight(
    data: Dataset, paths: dict[str, Path], truth: Path, num_frames: int, stride: int
) -> dict[str, Any]:
    """Each model's accuracy, and share of all its errors, by whether the place of the spot is seen.

    Never: visibility below 0.1 in each frame of the window (by frame count, gaps aside). In the open: 0.5 or more in
    the last. Between: the rest.
    """
    first = read_predictions(next(iter(paths.values())))
    recording, frame = data.locate(first.sample_id)
    labels = data.class_labels(first.sample_id)
    now, best = np.zeros(len(frame)), np.zeros(len(frame))
    for number, name in enumerate(data.recordings):
        own = recording == number
        visibility = np.load(truth / f"{name}.npz")["visibility"]
        seen = visibility[np.clip(frame[own][:, None] - stride * np.arange(num_frames), 0, None)]
        now[own], best[own] = seen[:, 0], seen.max(axis=1)
    groups = {"never seen": best < 0.1, "in the open": now >= 0.5}
    groups["between"] = ~(groups["never seen"] | groups["in the open"])
    wrong = {name: (read_predictions(path).score > 0.5) != labels for name, path in paths.items()}
    return {
        title: {
            "samples": int(group.sum()),
            "accuracy": {name: float(1 - errors[group].mean()) for name, errors in wrong.items()},
            "errors": {name: float(errors[group].sum() / errors.sum()) for name, errors in wrong.items()},
        }
        for title, group in groups.items()
    }


def with_interval(figures: dict[str, Any], name: str) -> str:
    value = figures["metrics"].get(name, figures["ranking"].get(name))
    if value is None:
        return "-"
    interval = (figures["intervals"] or {}).get(name) or (figures["ranking"]["intervals"] or {}).get(name)
    return (
        f"{value:.3f}" if interval is None else f"{value:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"
    )


def measure(options: argparse.Namespace) -> dict[str, Any]:
    data, twin = fmfbench.open_dataset(options.data), fmfbench.open_dataset(options.twin)
    made = json.loads((options.truth.parent / "fmf-sim.json").read_text())
    models = {name: load_checkpoint(options.runs / name) for name in MODELS}
    models[FUSED] = fused(models["visual"], models["current"])
    furnace = f"FMF-Sim {made['version']} {made['preset']}, seed {made['seed']}"
    out: dict[str, Any] = {
        "furnace": furnace,
        "models": {},
        "windows": {"current": {}, "video": {}},
        "controls": {},
    }
    paths = {}
    for name, model in models.items():
        paths[name] = path = prediction(options.out, name, model, data)
        scored = score(path, data, per_second=True, truth=options.truth).to_dict()
        out["models"][name] = {
            "parameters": model.num_parameters(),
            "config": model.meta.config,
            "trained": {key: model.meta.provenance.get(key) for key in ("recipe", "seed", "trained")},
            "score": scored,
        }
        if name == FUSED:
            continue
        ids = read_predictions(path).sample_id
        labels = data.class_labels(ids)
        control: dict[str, Any] = {"own": auroc_against(labels, path)}
        control["moved labels"] = moved_label_auroc(data, path)
        twin_path = prediction(options.out, f"{name}-twin", model, twin)
        if not np.array_equal(read_predictions(twin_path).sample_id, ids):
            raise SystemExit(f"{options.twin}: expected the twin of {options.data}, got one of other samples")
        control["twin"] = auroc_against(labels, twin_path)
        if name != "current":
            hide = cover(covered_places(data, ids))
            control["covered"] = auroc_against(
                labels, prediction(options.out, f"{name}-covered", model, data, transform=hide)
            )
        out["controls"][name] = control
        protocol = model_protocol(model)
        if name != "visual":
            out["windows"]["current"][name] = {
                seconds: accuracy(data, prediction(options.out, f"{name}-current-{seconds}", model, data,
                                                   protocol=replace(protocol, current_seconds=float(seconds))))
                for seconds in SECONDS
            }  # fmt: skip
        if name != "current":
            out["windows"]["video"][name] = {
                frames: accuracy(data, prediction(options.out, f"{name}-video-{frames}", model, data,
                                                  protocol=replace(protocol, num_frames=frames)))
                for frames in FRAMES
            }  # fmt: skip
    trained = {load_checkpoint(run): run.name for run in sorted(options.runs.glob("current*"))}
    lengths = {model_protocol(model).current_seconds: (model, name) for model, name in trained.items()}
    out["windows"]["current"]["current alone, trained on each"] = {
        seconds: accuracy(data, prediction(options.out, name, model, data))
        for seconds, (model, name) in sorted(lengths.items())
    }
    seen = model_protocol(models["both"])
    out["trained"] = {"current": seen.current_seconds, "video": seen.num_frames}
    out["by sight"] = by_sight(data, paths, options.truth, seen.num_frames, seen.stride)
    for first, second in (("both", "visual"), (FUSED, "visual"), ("both", FUSED), ("visual", "current")):
        out[f"{first} less {second}"] = compare(paths[first], paths[second], data, per_second=True).to_dict()
    return out


def fused(visual: Model, current: Model) -> Model:
    """Both as one model, which sees what they saw."""
    model = fuse_unimodal(cast(FmFormer, visual), cast(FmFormer, current))
    seen = replace(
        model_protocol(visual), current_seconds=model_protocol(current).current_seconds, name="fused"
    )
    model.meta = replace(model.meta, protocol=seen.to_dict())
    return model


def accuracy(data: Dataset, path: Path) -> dict[str, Any]:
    figures = score(path, data, per_second=True).to_dict()
    return {"accuracy": figures["metrics"]["accuracy"], "interval": figures["intervals"]["accuracy"]}


def markdown(out: dict[str, Any]) -> str:
    names = ("accuracy", "f1", "fdr", "mdr", "miou", "auroc")
    lines = [
        "| FmFormer, nano | parameters | accuracy | F1 | FDR | MDR | mIoU | AUROC |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, title in TITLES.items():
        figures = out["models"][name]
        cells = [with_interval(figures["score"], metric) for metric in names]
        lines.append(f"| {title} | {figures['parameters']:,} | {' | '.join(cells)} |")
    lines += ["", "| visibility | frames, abnormal | " + " | ".join(TITLES.values()) + " |"]
    lines.append("|---|---|" + "---|" * len(TITLES))
    for place, title in enumerate(BANDS):
        bands = [visibility(out, name)[place] for name in TITLES]
        cells = [f"{band['metrics']['accuracy']:.3f}" for band in bands]
        lines.append(f"| {title} | {bands[0]['num_samples']}, {bands[0]['abnormal']} | {' | '.join(cells)} |")
    lines += ["", "| place of the spot | samples | " + " | ".join(TITLES.values()) + " |"]
    lines.append("|---|---|" + "---|" * len(TITLES))
    for title, group in out["by sight"].items():
        cells = [f"{group['accuracy'][name]:.3f} ({group['errors'][name]:.2f})" for name in TITLES]
        lines.append(f"| {title} | {group['samples']} | {' | '.join(cells)} |")
    lines += [
        "",
        "| AUROC (share called abnormal) | as it is | moved labels | twin | covered |",
        "|---|---|---|---|---|",
    ]
    for name in MODELS:
        control = out["controls"][name]
        mean, deviation, count = control["moved labels"]
        cells = [
            pair(control["own"]),
            f"{mean:.3f}, s.d. {deviation:.3f} over {count}",
            pair(control["twin"]),
            pair(control.get("covered")),
        ]
        lines.append(f"| {TITLES[name]} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def pair(value: Any) -> str:
    return "-" if value is None else f"{value[0]:.3f} ({value[1]:.2f})"


def visibility(out: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [band for band in out["models"][name]["score"]["occlusion"]["bands"] if band["of"] == "visibility"]


def draw(out: dict[str, Any], folder: Path) -> None:
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained", sharey=True)
    step = get_protocol("paper").stride / 25
    for axis, kind, title in zip(
        axes, ("current", "video"), ("current seen (s)", "video seen, first to last frame (s)"), strict=True
    ):
        for name, points in out["windows"][kind].items():
            x = [float(at) if kind == "current" else (int(at) - 1) * step for at in points]
            low, high = ([p["interval"][end] for p in points.values()] for end in ("low", "high"))
            axis.fill_between(x, low, high, color=COLOURS[name], alpha=0.12, linewidth=0)
            axis.plot(
                x,
                [p["accuracy"] for p in points.values()],
                "o-",
                ms=4,
                color=COLOURS[name],
                label=TITLES.get(name, name),
            )
        seen = out["trained"]["current"] if kind == "current" else (out["trained"]["video"] - 1) * step
        axis.axvline(seen, color="0.6", lw=0.8, ls=":")
        axis.set(xlabel=title)
        axis.grid(alpha=0.25)
        axis.legend(frameon=False, fontsize=8)
    axes[0].set_ylabel("accuracy, last sample of each second")
    figure.suptitle(
        f"{out['furnace']}: FmFormer nano on windows of other lengths (trained at the dotted line where not said)",
        fontsize=10,
    )
    figure.savefig(folder / "windows.png", dpi=130)
    plt.close(figure)
    figure, axis = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
    for place, name in enumerate(TITLES):
        values = [band["metrics"]["accuracy"] for band in visibility(out, name)]
        axis.bar(
            np.arange(len(BANDS)) + 0.21 * (place - 1.5), values, 0.2, color=COLOURS[name], label=TITLES[name]
        )
    counts = [band["num_samples"] for band in visibility(out, "both")]
    axis.set_xticks(range(len(BANDS)), [f"{band}\n{n} frames" for band, n in zip(BANDS, counts, strict=True)])
    axis.set(xlabel="visibility of the place of the spot", ylabel="accuracy", ylim=(0.2, 1.0))
    axis.grid(axis="y", alpha=0.25)
    axis.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.26), ncols=4)
    axis.set_title(f"{out['furnace']}: FmFormer nano, accuracy by visibility", fontsize=10)
    figure.savefig(folder / "visibility.png", dpi=130)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("--data", "--twin", "--truth", "--runs", "--out"):
        parser.add_argument(name, type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    out = measure(options)
    (options.out / "fmf_sim.json").write_text(json.dumps(out, indent=1, default=str))
    (options.out / "fmf_sim.md").write_text(markdown(out))
    draw(out, options.out)
    print(markdown(out))
    for pairing in ("both less visual", "fused less visual", "both less fused", "visual less current"):
        print(pairing, json.dumps(out[pairing], default=str))


if __name__ == "__main__":
    main()
