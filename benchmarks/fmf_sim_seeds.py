"""What the current adds to the video on other furnaces: the models of one seed on FMF-Sim of other seeds.

    fmfbench train fmformer --data full.zarr --out runs/visual --set modality=visual ...   likewise current, both
    fmfbench simulate seed1 --preset full --seed 1  and  fmfbench convert seed1 seed1.zarr      and of other seeds
    python benchmarks/fmf_sim_seeds.py --runs runs --furnace seed1 seed1.zarr --furnace seed2 seed2.zarr --out OUT

runs/ holds the run folders current, visual and both; --furnace names a simulated folder (for its truth) and its store.
No model has seen these furnaces. Figures are of the last test sample of each second; hidden is a visibility below 0.1.
The last line holds all furnaces: its interval is of the mean of their differences, which are independent. All of it is
on FMF-Sim and says nothing about real furnaces.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fmf_sim_models import MODELS, accuracy, prediction

import fmfbench
from fmfbench.scoring.compare import compare
from fmfbench.scoring.score import score
from fmfbench_models import load_checkpoint
from fmfbench_models.interface import Model


@dataclass(frozen=True)
class Row:
    """One furnace's figures, models in the order of MODELS."""

    name: str
    accuracies: list[float]
    miou: list[float]  # of video alone and of both
    gain: tuple[float, float, float]  # both less video: the difference, its low and its high end
    hidden: int
    hidden_accuracies: list[float]

    def markdown(self) -> str:
        difference, low, high = self.gain
        cells = [*map(figure, self.accuracies), f"{difference:+.3f} [{low:+.3f}, {high:+.3f}]"]
        cells += [*map(figure, self.miou), str(self.hidden), *map(figure, self.hidden_accuracies)]
        return f"| {self.name} | {' | '.join(cells)} |"


def figure(value: float) -> str:
    return f"{value:.3f}"


def measure(models: dict[str, Model], folder: Path, store: Path, out: Path) -> Row:
    data = fmfbench.open_dataset(store)
    paths = {name: prediction(out, f"{store.stem}-{name}", model, data) for name, model in models.items()}
    gain = compare(paths["both"], paths["visual"], data, per_second=True).to_dict()["metrics"]["accuracy"]
    scored = {
        name: score(path, data, per_second=True, truth=folder / "truth").to_dict()
        for name, path in paths.items()
    }
    hidden = {name: hidden_band(figures) for name, figures in scored.items()}
    return Row(
        name=store.stem,
        accuracies=[accuracy(data, path)["accuracy"] for path in paths.values()],
        miou=[scored[name]["metrics"]["miou"] for name in ("visual", "both")],
        gain=(gain["difference"], gain["low"], gain["high"]),
        hidden=hidden["both"]["num_samples"],
        hidden_accuracies=[band["metrics"]["accuracy"] for band in hidden.values()],
    )


def hidden_band(figures: dict[str, Any]) -> dict[str, Any]:
    return next(band for band in figures["occlusion"]["bands"] if band["of"] == "visibility")


def together(rows: list[Row]) -> Row:
    """All furnaces, each with the same weight; hidden frames, each frame with the same."""
    differences = np.array([row.gain[0] for row in rows])
    below, above = (
        float(np.sqrt(sum((row.gain[end] - row.gain[0]) ** 2 for row in rows))) / len(rows) for end in (1, 2)
    )
    weights = np.array([row.hidden for row in rows], float)
    mean = float(differences.mean())
    return Row(
        name="all",
        accuracies=np.mean([row.accuracies for row in rows], axis=0).tolist(),
        miou=np.mean([row.miou for row in rows], axis=0).tolist(),
        gain=(mean, mean - below, mean + above),
        hidden=int(weights.sum()),
        hidden_accuracies=np.average(
            [row.hidden_accuracies for row in rows], axis=0, weights=weights
        ).tolist(),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--furnace", nargs=2, action="append", required=True, metavar=("FOLDER", "STORE"))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    models = {name: load_checkpoint(options.runs / name) for name in MODELS}
    print(
        "| furnace | current | video | both | both less video | mIoU video | mIoU both "
        "| hidden frames | current there | video there | both there |\n|" + "---|" * 11
    )
    rows = []
    for folder, store in options.furnace:
        rows.append(measure(models, Path(folder), Path(store), options.out))
        print(rows[-1].markdown(), flush=True)
    print(together(rows).markdown())


if __name__ == "__main__":
    main()
