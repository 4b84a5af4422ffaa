"""Boosting: gradient-boosted trees on statistics of the current over several horizons. Nothing of it is a network.

scikit-learn's HistGradientBoostingClassifier, after Friedman, "Greedy Function Approximation: A Gradient Boosting
Machine", Annals of Statistics 29(5), 2001, and LightGBM (Ke et al., NeurIPS 2017). Of the last 5, 20, 80 and 220 s of
each phase: mean, standard deviation, smallest, largest, slope and mean step; shorter windows use what there is.

The fitted trees are kept as plain arrays in the checkpoint, and a prediction walks them here: no pickle, and the same
answer as scikit-learn's to the last bit of a double.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fmfbench.errors import InputError
from fmfbench_models.interface import Batch, FitData, Model, Output
from fmfbench_models.parts.bits import from_bits, to_bits
from fmfbench_models.parts.blocks import needed
from fmfbench_models.registry import Registration

__all__ = ["REGISTRATION", "Boosting", "BoostingConfig", "trailing_statistics"]

Array = NDArray[np.float64]
COLUMNS = 6  # of a node: is it a leaf, its value, the feature it asks, the threshold, left and right child


@dataclass(frozen=True, kw_only=True)
class BoostingConfig:
    """Settings of Boosting.

    horizons: seconds. current_hz: values a second. iterations, learning_rate, leaves, least_samples (of a leaf), l2: of
    the trees. seed: of their binning. max_windows: how many training samples at most, evenly spread, are learned.
    """

    horizons: tuple[float, ...] = (5.0, 20.0, 80.0, 220.0)
    current_hz: float = 2.0
    iterations: int = 100
    learning_rate: float = 0.1
    leaves: int = 31
    least_samples: int = 20
    l2: float = 0.0
    seed: int = 0
    max_windows: int = 50_000

    def __post_init__(self) -> None:
        if not self.horizons or min(self.horizons) <= 0 or not self.current_hz > 0:
            raise InputError(
                f"boosting: expected horizons and current_hz above 0, got {self.horizons} and {self.current_hz}"
            )
        counts = {name: getattr(self, name) for name in ("iterations", "least_samples", "max_windows")}
        if min(counts.values()) < 1 or self.leaves < 2 or not self.learning_rate > 0 or self.l2 < 0:
            told = ", ".join(f"{name} {value}" for name, value in counts.items())
            raise InputError(
                f"boosting: expected counts of at least 1, leaves of at least 2, learning_rate above 0 and l2 of at "
                f"least 0, got {told}, leaves {self.leaves}, learning_rate {self.learning_rate}, l2 {self.l2}"
            )


def trailing_statistics(current: Array, horizons: tuple[float, ...], hz: float) -> Array:
    """Windows (n, t, 3) in A, oldest row first -> (n, horizons * 6 * 3).

    For each horizon, of its last rows: mean, standard deviation, smallest, largest, slope of the least-squares line (A
    a second) and mean absolute step from row to row.
    """
    parts = []
    for horizon in horizons:
        rows = current[:, -max(round(horizon * hz), 2) :]
        count = rows.shape[1]
        time = (np.arange(count) - (count - 1) / 2)[:, None] / hz
        spread = float(np.square(time).sum()) or 1.0
        steps = np.abs(np.diff(rows, axis=1)).mean(1) if count > 1 else np.zeros_like(rows[:, 0])
        parts += [rows.mean(1), rows.std(1), rows.min(1), rows.max(1), (rows * time).sum(1) / spread, steps]
    return np.concatenate(parts, axis=1)


class Boosting(Model):
    """Statistics, and once fitted the trees. Before the fit it says 0.5 of everything."""

    fitted_buffers = ("node_bits", "root")
    node_bits: Tensor
    root: Tensor
    base_bits: Tensor

    def __init__(self, config: BoostingConfig) -> None:
        super().__init__(modality="current", dense=False, raw_input=True)
        self.config = config
        self.register_buffer("node_bits", torch.zeros(0, COLUMNS, dtype=torch.int64))
        self.register_buffer("root", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("base_bits", torch.zeros(1, dtype=torch.int64))

    def forward(self, video: Tensor | None = None, current: Tensor | None = None) -> Output:
        current = needed(current, (None, 3), what="boosting: current")
        features = self._features(current)
        odds = torch.as_tensor(self.log_odds(features), device=current.device).to(self.input_norm.like.dtype)
        return Output(torch.stack([-odds / 2, odds / 2], 1))

    def _features(self, current: Tensor) -> Array:
        windows = current.detach().cpu().double().numpy()
        return trailing_statistics(windows, self.config.horizons, self.config.current_hz)

    def log_odds(self, features: Array) -> Array:
        """(n, features) -> (n,): the base, and a leaf's value of each tree."""
        total = np.full(len(features), float(from_bits(self.base_bits)[0]))
        nodes = from_bits(self.node_bits)
        leaf, value = nodes[:, 0] != 0, nodes[:, 1]
        asked, threshold, left, right = (
            nodes[:, 2].astype(int),
            nodes[:, 3],
            nodes[:, 4].astype(int),
            nodes[:, 5].astype(int),
        )
        rows = np.arange(len(features))
        for root in self.root.cpu().numpy():
            place = np.full(len(features), root)
            while not leaf[place].all():
                goes_left = features[rows, asked[place]] <= threshold[place]
                place = np.where(leaf[place], place, np.where(goes_left, left[place], right[place]))
            total += value[place]
        return total

    def fit(self, data: FitData) -> None:
        from sklearn.ensemble import HistGradientBoostingClassifier

        features, labels = self._read(data.train)
        if len(np.unique(labels)) < 2:
            raise InputError(
                f"boosting: expected normal and abnormal training samples, got {(labels == 0).sum()} normal and "
                f"{(labels == 1).sum()} abnormal"
            )
        config = self.config
        pick = np.unique(np.linspace(0, len(labels) - 1, config.max_windows).round().astype(int))
        trees = HistGradientBoostingClassifier(
            max_iter=config.iterations,
            learning_rate=config.learning_rate,
            max_leaf_nodes=config.leaves,
            min_samples_leaf=min(config.least_samples, max(len(pick) // 4, 1)),
            l2_regularization=config.l2,
            early_stopping=False,
            random_state=config.seed,
        ).fit(features[pick], labels[pick])
        self._keep(trees)

    def _keep(self, trees: Any) -> None:
        """The trees as arrays: scikit-learn has no public form of them without a pickle."""
        nodes, roots, count = [], [], 0
        for (predictor,) in trees._predictors:
            own = predictor.nodes
            columns = [
                own["is_leaf"],
                own["value"],
                own["feature_idx"],
                own["num_threshold"],
                own["left"],
                own["right"],
            ]
            table = np.stack([np.asarray(column, np.float64) for column in columns], 1)
            table[:, 4:] += count  # children are counted from the tree's root
            nodes.append(table)
            roots.append(count)
            count += len(own)
        device = self.node_bits.device
        self.node_bits = to_bits(np.concatenate(nodes)).to(device)
        self.root = torch.tensor(roots, dtype=torch.int64, device=device)
        self.base_bits.copy_(to_bits(np.asarray(trees._baseline_prediction, np.float64).reshape(1)))

    def _read(self, batches: Iterable[Batch]) -> tuple[Array, NDArray[np.int64]]:
        """Statistics and labels of the labelled samples.

        A window that repeats its predecessor with its label, as those of neighbouring frames do, is read once.
        """
        features: list[Array] = []
        labels: list[NDArray[np.int64]] = []
        for batch in batches:
            label = batch["class_label"].cpu().numpy().astype(np.int64)
            own = self._features(batch["current"])
            same = np.zeros(len(label), bool)
            same[1:] = (own[1:] == own[:-1]).all(1) & (label[1:] == label[:-1])
            if labels and len(labels[-1]):
                same[:1] = (own[:1] == features[-1][-1:]).all(1) & (label[:1] == labels[-1][-1:])
            kept = (label <= 1) & ~same
            features.append(own[kept])
            labels.append(label[kept])
        if not sum(map(len, labels)):
            raise InputError("boosting: expected labelled training samples, got none")
        return np.concatenate(features), np.concatenate(labels)


REGISTRATION = Registration(
    name="boosting",
    title="Boosting",
    modality="current",
    dense=False,
    config=BoostingConfig,
    build=Boosting,
    tiny={"horizons": [2.0, 16.0], "iterations": 10, "leaves": 4, "least_samples": 2},
    training="fitted",
    no_onnx="its trees are walked in NumPy, nothing of it is a network",
    source="scikit-learn's HistGradientBoostingClassifier; Friedman, Annals of Statistics 29(5), 2001",
    provenance={
        "gradient-boosted trees, 100 of 31 leaves, rate 0.1": "scikit-learn's defaults",
        "statistics of four horizons": "choice",
        "repeated windows learned once": "choice",
    },
)
