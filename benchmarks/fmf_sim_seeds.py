"""What the current adds to the video on other furnaces: the models of one seed on FMF-Sim of other seeds.

    fmfbench train fmformer --data full.zarr --out runs/visual --set modality=visual ...   likewise current, both
    fmfbench simulate seed1 --preset full --seed 1  and  fmfbench convert seed1 seed1.zarr      and of other seeds
    python benchmarks/fmf_sim_seeds.py --runs runs --furnace seed1 seed1.zarr --furnace seed2 seed2.zarr --out OUT

runs/ holds the run folders current, visual and both; --furnace names a simulated folder (for its truth) and its store.
No model has seen these furnaces. "Logits added" is `fuse_unimodal` of visual and current: nothing is trained for it.
Figures are of the last test sample of each second; hidden is a visibility below 0.1.
The last line holds all furnaces: its interval is of the mean of their differences, which are independent. All of it
is on FMF-Sim and says nothing about real furnaces.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fmf_sim_models import FUSED, MODELS, fused, prediction

import fmfbench
from fmfbench.scoring.compare import compare
from fmfbench.scoring.score import score
from fmfbench_models import load_checkpoint
from fmfbench_models.interface import Model


@dataclass(frozen=True)
class Row:
    """One furnace's figures, models in the order of MODELS and then their logits added."""

    name: str
    accuracies: list[float]
    gains: list[
        tuple[float, float, float]
    ]  # both, and added, less video: the difference, its low and its high end
    hidden: int
    hidden_accuracies: list[float]

    def markdown(self) -> str:
        gains = [f"{difference:+.3f} [{low:+.3f}, {high:+.3f}]" for difference, low, high in self.gains]
        cells = [
            *map(figure, self.accuracies),
            *gains,
            str(self.hidden),
            *map(figure, self.hidden_accuracies),
        ]
        return f"| {self.name} | {' | '.join(cells)} |"


def figure(value: float) -> str:
    return f"{value:.3f}"


def measure(models: dict[str, Model], folder: Path, store: Path, out: Path) -> Row:
    data = fmfbench.open_dataset(store)
    paths = {name: prediction(out, f"{store.stem}-{name}", model, data) for name, model in models.items()}
    scored = [score(path, data, per_second=True, truth=folder / "truth").to_dict() for path in paths.values()]
    hidden = [hidden_band(figures) for figures in scored]
    gains = [
        compare(paths[name], paths["visual"], data, per_second=True).to_dict()["metrics"]["accuracy"]
        for name in ("both", FUSED)
    ]
    return Row(
        name=store.stem,
        accuracies=[figures["metrics"]["accuracy"] for figures in scored],
        gains=[(gain["difference"], gain["low"], gain["high"]) for gain in gains],
        hidden=hidden[0]["num_samples"],
        hidden_accuracies=[band["metrics"]["accuracy"] for band in hidden],
    )


def hidden_band(figures: dict[str, Any]) -> dict[str, Any]:
    return next(band for band in figures["occlusion"]["bands"] if band["of"] == "visibility")


def together(rows: list[Row]) -> Row:
    """All furnaces, each with the same weight; hidden frames, each frame with the same."""
    weights = np.array([row.hidden for row in rows], float)
    return Row(
        name="all",
        accuracies=np.mean([row.accuracies for row in rows], axis=0).tolist(),
        gains=[mean_of(list(gains)) for gains in zip(*(row.gains for row in rows), strict=True)],
        hidden=int(weights.sum()),
        hidden_accuracies=np.average(
            [row.hidden_accuracies for row in rows], axis=0, weights=weights
        ).tolist(),
    )


def mean_of(gains: list[tuple[float, float, float]]) -> tuple[float, float, float]:
    """The mean of independent differences, and its interval: either side adds up in squares."""
    difference, low, high = np.array(gains).T
    mean = float(difference.mean())
    below, above = (float(np.sqrt(np.sum((end - difference) ** 2))) / len(gains) for end in (low, high))
    return mean, mean - below, mean + above


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--furnace", nargs=2, action="append", required=True, metavar=("FOLDER", "STORE"))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    models = {name: load_checkpoint(options.runs / name) for name in MODELS}
    models[FUSED] = fused(models["visual"], models["current"])
    print(
        "| furnace | current | video | both | logits added | both less video | added less video "
        "| hidden frames | current there | video there | both there | added there |\n|" + "---|" * 12
    )
    rows = []
    for folder, store in options.furnace:
        rows.append(measure(models, Path(folder), Path(store), options.out))
        print(rows[-1].markdown(), flush=True)
    print(together(rows).markdown())


if __name__ == "__main__":
    main()
