"""What the current adds to the video on other furnaces: FMF-Sim of other seeds, logits of two models added.

    fmfbench train fmformer --data full.zarr --out runs/visual --set modality=visual ...            on one seed
    fmfbench simulate seed1 --preset full --seed 1  and  fmfbench convert seed1 seed1.zarr          and of other seeds
    fmfbench train fmformer --data seed1.zarr --out runs/seed1 --set modality=current ...           on each
    python benchmarks/fmf_sim_seeds.py --visual runs/visual --furnace seed1 seed1.zarr runs/seed1 --out OUT

--furnace, which may be repeated, names the simulated folder (for its truth), its store and the run on its current. The
video model sees furnaces that it was not trained on. Figures are of the last test sample of each second; hidden is a
visibility below 0.1. All of it is on FMF-Sim and says nothing about real furnaces.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fmf_sim_models import FUSED, accuracy, fused, prediction

import fmfbench
from fmfbench.scoring.compare import compare
from fmfbench.scoring.score import score
from fmfbench_models import load_checkpoint


def row(visual: Path, furnace: list[str], out: Path) -> str:
    """A line of the table."""
    folder, store, run = map(Path, furnace)
    data, video, current = fmfbench.open_dataset(store), load_checkpoint(visual), load_checkpoint(run)
    models = {"current": current, "video": video, FUSED: fused(video, current)}
    paths = {name: prediction(out, f"{store.stem}-{name}", model, data) for name, model in models.items()}
    cells = [f"{accuracy(data, path)['accuracy']:.3f}" for path in paths.values()]
    gain = compare(paths[FUSED], paths["video"], data, per_second=True).to_dict()["metrics"]["accuracy"]
    hidden = [hidden_accuracy(path, data, folder / "truth") for path in paths.values()]
    return (
        f"| {store.stem} | {' | '.join(cells)} | {gain['difference']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}] "
        f"| {hidden[0][0]} | {' | '.join(f'{value:.3f}' for _, value in hidden)} |"
    )


def hidden_accuracy(path: Path, data: Any, truth: Path) -> tuple[int, float]:
    bands = score(path, data, per_second=True, truth=truth).to_dict()["occlusion"]["bands"]
    band = next(band for band in bands if band["of"] == "visibility")
    return band["num_samples"], band["metrics"]["accuracy"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--visual", type=Path, required=True)
    parser.add_argument(
        "--furnace", nargs=3, action="append", required=True, metavar=("FOLDER", "STORE", "RUN")
    )
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    print(
        "| furnace | current | video | logits added | added less video | hidden frames | current there | video there "
        "| added there |\n|---|---|---|---|---|---|---|---|---|"
    )
    for furnace in options.furnace:
        print(row(options.visual, furnace, options.out), flush=True)


if __name__ == "__main__":
    main()
