"""TN-BCL on images and tags: outliers of three kinds at ratios from 19:1 to 1:4, as its authors' Tables I and V.

    fmfbench unsupervised image-tags --data digits --out DIR

Each run (data, method, seed) has a split, tags, weights and outliers of its own, all from its seed, and ends in one
JSON file of DIR; a run whose file is there is not made again. DIR/DATA.md has the table of all runs of that data in
DIR, also of those that other calls made. Thresholds are found on validation pairs, in which outliers of the three kinds
stand one to one; test pairs are looked at once, and nothing was chosen by what they say.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from fmfbench.errors import InputError
from fmfbench.files.atomic import write_text
from fmfbench.files.claims import make_folder
from fmfbench_models.parts.blocks import PatchEmbedding
from fmfbench_models.parts.contrastive import Loss, Mining, contrastive_loss, relations
from fmfbench_models.parts.two_stage import Neighbours, TwoStage, cosine, fit_two_stage
from fmfbench_models.unsupervised.results import check_seed, exit_code, run_command
from fmfbench_models.unsupervised.tag_baselines import BASELINES, baseline_run
from fmfbench_models.unsupervised.tag_pairs import (
    TAG_VALUES,
    Images,
    Pairs,
    draw_material,
    load_images,
    pair_figures,
)
from fmfbench_models.zoo.tn_bcl import SharedResidual, Trunk

__all__ = ["METHODS", "RATIOS", "ImageTagNet", "TagSettings", "main", "run_all", "run_one"]

RATIOS = ("19:1", "9:1", "4:1", "3:1", "2:1", "1:1", "1:2", "1:3", "1:4")
METHODS: dict[str, tuple[Loss, Mining]] = {
    "L_quintuple, mining as printed": ("quintuple", "paper"),
    "L_quintuple, hard mining": ("quintuple", "hard"),
    "L_inter, mining as printed": ("inter", "paper"),
    "L_inter, hard mining": ("inter", "hard"),
    "CMML": ("cmml", "hard"),
    "TBNN": ("tbnn", "hard"),
}
EPOCHS = {"digits": 20, "mnist5k": 8}  # 340 and 432 steps
SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class TagSettings:
    """All that decides a run.

    depth, heads, gamma, contamination: the paper's (3 blocks and 0.4 for MNIST); dim, k, epochs, batch_size, lr,
    gamma_0, margin are not given there.
    """

    data: str
    loss: Loss
    mining: Mining
    seed: int
    epochs: int
    batch_size: int = 64
    lr: float = 1e-3
    dim: int = 96
    depth: int = 3
    heads: int = 6
    gamma: float = 0.4
    gamma_0: float = 1.0
    margin: float = 0.2
    k: int = 5
    contamination: float = 0.001


class ImageTagNet(nn.Module):
    """image (b, H, W), tag (b, 100) -> v1, v2, t2 (b, 100): the paper's network, a plain transformer as its trunk."""

    def __init__(self, size: tuple[int, int], patch: int, settings: TagSettings) -> None:
        super().__init__()
        self.patch = patch
        places = (size[0] // patch) * (size[1] // patch)
        self.embed = PatchEmbedding(patch * patch, settings.dim)
        # positions start at deviation 1, as they did for the tables of data_cards/unsupervised.md
        self.trunk = Trunk(places, settings.dim, settings.depth, settings.heads, 4 * settings.dim, 1.0)
        self.out = nn.Linear(settings.dim, TAG_VALUES)
        self.shared = SharedResidual(TAG_VALUES)

    def forward(self, image: Tensor, tag: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        tokens = F.unfold(2 * image[:, None] - 1, self.patch, stride=self.patch).transpose(1, 2)
        v1 = F.relu(self.out(self.trunk(self.embed(tokens))))
        return v1, self.shared(v1), self.shared(tag)


def run_one(settings: TagSettings, images: Images) -> dict[str, Any]:
    """Split, train, find thresholds, and score outliers at every ratio. InputError: a seed out of range."""
    check_seed(settings.seed, "image_tags")
    material = draw_material(images, settings.seed, RATIOS)
    net, losses = _train(settings, images, material.train)
    neighbours, stages = _fit(net, material.validation, settings)
    ratios = {
        ratio: _figures(net, pairs, neighbours, stages, settings.k) for ratio, pairs in material.test.items()
    }
    return {
        "schema": SCHEMA,
        "settings": asdict(settings),
        "samples": material.samples,
        "loss": losses,
        "thresholds": asdict(stages),
        "ratios": ratios,
    }


def _train(settings: TagSettings, images: Images, pairs: Pairs) -> tuple[ImageTagNet, dict[str, float]]:
    """The trained network in eval mode, and the mean loss of the first and the last epoch."""
    torch.manual_seed(settings.seed)
    height, width = images.images.shape[1:]
    net = ImageTagNet((height, width), images.patch, settings)
    optimiser = torch.optim.Adam(net.parameters(), lr=settings.lr)
    image, tag, label = map(torch.from_numpy, (pairs.image, pairs.tag, pairs.label))
    means = []
    for _ in range(settings.epochs):
        order = torch.randperm(len(label))
        losses = []
        for rows in order[: len(order) // settings.batch_size * settings.batch_size].split(
            settings.batch_size
        ):
            _, v2, t2 = net(image[rows], tag[rows])
            loss = contrastive_loss(
                v2,
                t2,
                relations(label[rows]),
                loss=settings.loss,
                mining=settings.mining,
                gamma=settings.gamma,
                gamma_0=settings.gamma_0,
                margin=settings.margin,
            )["loss"]
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        means.append(float(np.mean(losses)))
    return net.eval(), {"first": means[0], "last": means[-1]}


@torch.no_grad()
def _embed(net: ImageTagNet, pairs: Pairs) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """v1 (n, 100) and the cosine of v2 and t2 (n,)."""
    v1, v2, t2 = (
        out.double().numpy() for out in net(torch.from_numpy(pairs.image), torch.from_numpy(pairs.tag))
    )
    return v1, cosine(v2, t2)


def _fit(net: ImageTagNet, held: Pairs, settings: TagSettings) -> tuple[Neighbours, TwoStage]:
    v1, agreement = _embed(net, held)
    normal = held.kind == 0
    neighbours = Neighbours(v1[normal])
    stages = fit_two_stage(
        neighbours,
        agreement[normal],
        agreement[~normal],
        k=settings.k,
        contamination=settings.contamination,
    )
    return neighbours, stages


def _figures(
    net: ImageTagNet, pairs: Pairs, neighbours: Neighbours, stages: TwoStage, k: int
) -> dict[str, Any]:
    """AUROC, FPR, TPR and accuracy over all pairs, and AUROC and TPR of each kind against the normal ones."""
    v1, agreement = _embed(net, pairs)
    outlying = stages.outlyingness(neighbours.distance(v1, k), agreement)
    return pair_figures(outlying, pairs, 0.0)


def run_all(data: str, out: Path, seeds: int, methods: Sequence[str], epochs: int | None = None) -> Path:
    """Make the runs that are not there yet, then the table of all that are there; its path.

    Raises:
        InputError: no such data or method, no seeds, or a run of `data` in `out` that was made with other settings.
    """
    from fmfbench_models.unsupervised.image_tags_card import tags_markdown

    unknown = [name for name in methods if name not in METHODS]
    if unknown or not methods or seeds < 1 or (epochs is not None and epochs < 1):
        raise InputError(
            f"image_tags: expected methods of {'; '.join(METHODS)}, and seeds and epochs of 1 or more, got "
            f"{'; '.join(methods) or 'none'}, {seeds} and {epochs}"
        )
    images = load_images(data)
    make_folder(out, "the results")
    epochs = EPOCHS[data] if epochs is None else epochs
    wanted = {
        name: TagSettings(data=data, loss=loss, mining=mining, seed=0, epochs=epochs)
        for name, (loss, mining) in METHODS.items()
    }
    for settings in wanted.values():
        _found(out, settings)  # one that does not belong in the table is said before the long part
    todo = [(name, seed) for seed in range(seeds) for name in dict.fromkeys(methods)]
    for name, seed in tqdm(todo, unit="run", desc=data, disable=None):
        settings = replace(wanted[name], seed=seed)
        file = out / _file_name(settings)
        if not file.is_file():
            write_text(file, json.dumps(run_one(settings, images), indent=1) + "\n")
    runs = {name: _found(out, settings) for name, settings in wanted.items()}
    path = out / f"{data}.md"
    made = {name: found for name, found in runs.items() if found}
    known = {run["settings"]["seed"] for found in made.values() for run in found}
    drawn = [draw_material(images, seed, RATIOS) for seed in sorted(known)]
    without = {name: [baseline_run(name, material) for material in drawn] for name in BASELINES}
    write_text(path, tags_markdown(data, made, without) + "\n")
    return path


def _file_name(settings: TagSettings) -> str:
    return f"{settings.data}-{settings.loss}-{settings.mining}-{settings.seed}.json"


def _found(out: Path, settings: TagSettings) -> list[dict[str, Any]]:
    """The runs in `out` that differ from `settings` in the seed alone, in the order of seeds.

    Raises:
        InputError: one of them was made with other settings.
    """
    seeds = sorted(
        int(found[1])
        for path in out.iterdir()
        if (
            found := re.fullmatch(
                rf"{settings.data}-{settings.loss}-{settings.mining}-(0|[1-9][0-9]*)\.json", path.name
            )
        )
    )
    runs = []
    for seed in seeds:
        own = replace(settings, seed=seed)
        path = out / _file_name(own)
        run: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if run.get("schema") != SCHEMA or run.get("settings") != asdict(own):
            raise InputError(
                f"{path}: expected a run of these settings, got one of others; choose another folder or delete it"
            )
        runs.append(run)
    return runs


def main(arguments: Sequence[str] | None = None) -> int:
    """The earlier spelling of `fmfbench unsupervised image-tags`: python -m and this module's name."""
    return exit_code(lambda: run_command("image-tags", arguments))


if __name__ == "__main__":
    sys.exit(main())
