"""The tables of `image_tags`, beside the figures that the paper prints for all of MNIST."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from scipy.special import stdtrit

from fmfbench.files.markdown import table

__all__ = ["PAPER_MNIST", "PAPER_MNIST_RATIOS", "mean_interval", "tags_markdown"]

# TN-BCL's paper, Table I (MNIST: AUC, FPR, TPR, accuracy) and the MNIST rows of Table V (accuracies at the ratios),
# each beneath the last of the methods that it is the figure of.
PAPER_MNIST = {
    "L_quintuple, hard mining": (0.9971, 0.0062, 0.9922, 0.9932),
    "L_inter, hard mining": (0.9974, 0.0051, 0.9934, 0.9942),
    "CMML": (0.9761, 0.0195, 0.9705, 0.9725),
    "TBNN": (0.9574, 0.0258, 0.9407, 0.9592),
}
PAPER_MNIST_RATIOS = {
    "L_quintuple, hard mining": (0.9923, 0.9924, 0.9926, 0.9929, 0.9928, 0.9931, 0.9933, 0.9931, 0.9935),
    "L_inter, hard mining": (0.9935, 0.9941, 0.9937, 0.9938, 0.9939, 0.9942, 0.9941, 0.9945, 0.9946),
    "CMML": (0.9703, 0.9719, 0.9723, 0.9729, 0.9738, 0.9755, 0.9758, 0.9762, 0.9771),
    "TBNN": (0.9730, 0.9716, 0.967, 0.9656, 0.9618, 0.9536, 0.948, 0.9466, 0.9458),
}
TITLES = {"auroc": "AUROC", "fpr": "FPR", "tpr": "TPR", "accuracy": "accuracy"}

Run = Mapping[str, Any]


def mean_interval(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Mean over seeds and its 95 % t interval, cut to [0, 1]; no interval of one value."""
    mean = fmean(values)
    if len(values) < 2:
        return mean, None, None
    half = float(stdtrit(len(values) - 1, 0.975)) * stdev(values) / len(values) ** 0.5
    return mean, max(mean - half, 0.0), min(mean + half, 1.0)


def tags_markdown(
    data: str, runs: Mapping[str, Sequence[Run]], without: Mapping[str, Sequence[Run]] | None = None
) -> str:
    """Tables of one data set: all figures and kinds at 1:1, and accuracy at every ratio.

    without: runs of what needs no network, beneath the methods.
    """
    without = without or {}
    some = next(iter(runs.values()))[0]
    samples = some["samples"]
    lines = [
        f"`{data}`: {samples['train']} train, {samples['validation']} validation, {samples['test']} test pairs; "
        f"{some['settings']['epochs']} epochs; "
        f"{_seeds([len(made) for made in runs.values()])}.",
        "",
        "One to one; beneath, in italics, the paper's Table I on the whole of MNIST:",
        "",
        *table(("method", *TITLES.values()), _overall({**runs, **without})),
        "",
        "One to one, each kind against the normal pairs:",
        "",
        *table(
            ("method", *(f"{kind} {what}" for kind in _kinds(some) for what in ("AUROC", "TPR"))),
            _by_kind({**runs, **without}),
        ),
        "",
        "Accuracy by ratio of normal to outlying pairs; in italics, the paper's Table V on the whole of MNIST:",
        "",
        *table(("method", *some["ratios"]), _by_ratio({**runs, **without})),
    ]
    return "\n".join(lines)


def _seeds(counts: Sequence[int]) -> str:
    """What the figures are of, by the number of runs of each method."""
    few, many = min(counts), max(counts)
    if many == 1:
        return "one seed, so without intervals"
    if few == many:
        return f"mean of {many} seeds and its 95 % t interval"
    alone = "; no interval where there is one seed" if few == 1 else ""
    return (
        f"mean of {few} to {many} seeds, as many as there are of the method, and its 95 % t interval{alone}"
    )


def _kinds(run: Run) -> list[str]:
    return list(run["ratios"]["1:1"]["kinds"])


def _overall(runs: Mapping[str, Sequence[Run]]) -> list[list[str]]:
    rows = []
    for name, made in runs.items():
        rows.append([name, *(_cell([run["ratios"]["1:1"][metric] for run in made]) for metric in TITLES)])
        if name in PAPER_MNIST:
            rows.append(
                [f"*paper, {name.split(',')[0]}*", *(f"*{value:.4f}*" for value in PAPER_MNIST[name])]
            )
    return rows


def _by_kind(runs: Mapping[str, Sequence[Run]]) -> list[list[str]]:
    rows = []
    for name, made in runs.items():
        cells = [
            _cell([run["ratios"]["1:1"]["kinds"][kind][metric] for run in made])
            for kind in _kinds(made[0])
            for metric in ("auroc", "tpr")
        ]
        rows.append([name, *cells])
    return rows


def _by_ratio(runs: Mapping[str, Sequence[Run]]) -> list[list[str]]:
    ratios = list(next(iter(runs.values()))[0]["ratios"])
    rows = []
    for name, made in runs.items():
        cells = [_cell([run["ratios"][ratio]["accuracy"] for run in made]) for ratio in ratios]
        rows.append([name, *cells])
        if name in PAPER_MNIST_RATIOS:
            paper = PAPER_MNIST_RATIOS[name]
            rows.append([f"*paper, {name.split(',')[0]}*", *(f"*{value:.4f}*" for value in paper)])
    shares = [[int(part) for part in ratio.split(":")] for ratio in ratios]
    floor = [f"{max(share) / sum(share):.4f}" for share in shares]
    return [*rows, ["always the more frequent", *floor]]


def _cell(values: Sequence[float]) -> str:
    mean, low, high = mean_interval(values)
    return f"{mean:.4f}" if low is None else f"{mean:.4f} ({low:.4f} to {high:.4f})"
