"""data_cards/results.md and the bundles beside it: each figure of a finished row is its bundle's.

Also tests fmfbench.board.bundle.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from fmfbench.board.bundle import read_bundle
from fmfbench.furnace import VERSION

CARDS = Path(__file__).resolve().parents[2] / "data_cards"
BUNDLES = sorted((CARDS / "results").glob("*.fmfb"))


def rows() -> dict[str, list[str]]:
    """Slug -> the cells of its row of "Made so far"."""
    text = (CARDS / "results.md").read_text(encoding="utf-8")
    part = text.split("## Made so far")[1].split("\n## ")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines()]
    return {row[1].strip("`"): row for row in cells if len(row) > 5 and row[1].startswith("`")}


def test_every_row_has_a_bundle_and_every_bundle_a_row():
    assert BUNDLES
    assert set(rows()) == {path.stem.rsplit("-seed", 1)[0] for path in BUNDLES}
    assert sum(path.stat().st_size for path in (CARDS / "results").iterdir()) < 10_000_000


@pytest.mark.parametrize("path", BUNDLES, ids=lambda path: path.stem)
def test_a_rows_figures_are_its_bundles(path):
    bundle = read_bundle(path)
    assert bundle.card["meta"]["simulated"] is True
    row = rows()[path.stem.rsplit("-seed", 1)[0]]
    metrics, intervals = bundle.score["metrics"], bundle.score["intervals"]
    for name, cell in zip(("accuracy", "f1", "miou"), row[4:7], strict=True):
        if metrics[name] is None:
            assert cell == "-"
            continue
        low, high = intervals[name]["low"], intervals[name]["high"]  # None where no interval can be had
        assert cell == f"{metrics[name]:.3f}" + ("" if low is None else f" [{low:.3f}, {high:.3f}]")
    assert row[7].startswith(f"{bundle.score['ranking']['auroc']:.3f}")
    assert row[8] == f"{bundle.score['calibration']['ece']:.3f}"
    assert row[3] == f"{bundle.card['parameters']:,}"
    lost = re.search(r"video-missing|current-missing", path.stem)
    assert bundle.receipt["corrupt"] == (lost and lost[0])


def test_they_are_of_one_store_of_the_current_furnace():
    assert len({read_bundle(path).receipt["fingerprint"] for path in BUNDLES}) == 1
    text = (CARDS / "results.md").read_text(encoding="utf-8")
    assert f"on FMF-Sim {VERSION} (simulated)" in text


def test_every_trained_row_has_its_curve():
    with open(CARDS / "results" / "curves.csv", newline="", encoding="utf-8") as file:
        curves: dict[str, list[float]] = {}
        for line in csv.DictReader(file):
            curves.setdefault(line["training"], []).append(float(line["loss"]))
    assert {len(losses) for losses in curves.values()} == {12}
    assert {slug for slug in rows() if "--" not in slug} <= set(curves) | {"expert", "boosting"}
    assert all(losses[0] > losses[-1] for losses in curves.values())
