"""data_cards/results.md and the bundles beside it: each figure of a finished row is its bundle's.

Also tests fmfbench.board.bundle.
"""

from __future__ import annotations

import csv
import re
from functools import cache
from pathlib import Path

import pytest

from fmfbench.board.bundle import Bundle, read_bundle
from fmfbench.furnace import VERSION

CARDS = Path(__file__).resolve().parents[2] / "data_cards"
RESULTS = CARDS / "results"
BUNDLES = sorted(RESULTS.glob("*.fmfb"))
LEFT_OUT = sorted((RESULTS / "left_out").glob("*.fmfb"))
TWICE = sorted((RESULTS / "twice").glob("*.fmfb"))
WITHOUT_CURVES = {
    "expert",
    "boosting",
    "constant_image",
    "patch_memory",
    "pca_residual",
}  # nothing by gradients
EPOCHS = 24


def card() -> str:
    return (CARDS / "results.md").read_text(encoding="utf-8")


def tables() -> list[list[list[str]]]:
    """The tables of "The figures": the cells of each line below the head."""
    part = card().split("## The figures")[1].split("\n## ")[0]
    found = re.findall(r"(?:^\|.*\n)+", part, re.M)
    return [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
        for table in found
    ]


def rows() -> dict[str, list[str]]:
    """Slug -> the cells of its line, of the tables that have all metrics."""
    return {line[1].strip("`"): line for table in tables() for line in table if line[1].startswith("`")}


def lines_under(heading: str) -> list[list[str]]:
    """The cells of each line of the table under a heading."""
    part = card().split(f"### {heading}\n")[1].split("\n#")[0]
    lines = re.findall(r"^\| `.*$", part, re.M)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def table_under(heading: str) -> dict[str, list[str]]:
    """Slug -> the cells of its line."""
    return {line[0].strip("`"): line for line in lines_under(heading)}


def curves(path: Path) -> dict[tuple[str, str], list[float]]:
    """(training, seed) -> the loss of each epoch."""
    found: dict[tuple[str, str], list[float]] = {}
    with open(path, newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            found.setdefault((line["training"], line["seed"]), []).append(float(line["loss"]))
    return found


def last_quarter(losses: list[float]) -> str:
    """What the last quarter of the epochs brought of the whole fall."""
    count = len(losses) // 4
    end, before = sum(losses[-count:]) / count, sum(losses[-2 * count : -count]) / count
    return f"{100 * (before - end) / (losses[0] - end):.0f} %"


WORLDS = table_under("With a sensor lost")
COSTS = table_under("Size, time and calibration")
LEFT = table_under("One recording left out")


@cache
def bundle(name: str) -> Bundle:
    return read_bundle(RESULTS / f"{name}.fmfb")


def shown(own: Bundle, name: str) -> str:
    """A metric as the card shows it, with its interval where it has one."""
    value, interval = own.score["metrics"][name], own.score["intervals"].get(name) or {"low": None}
    if value is None:
        return "-"
    low = interval["low"]
    return f"{value:.3f}" + ("" if low is None else f" [{low:.3f}, {interval['high']:.3f}]")


def test_every_row_has_a_bundle_and_every_bundle_a_row():
    assert len(BUNDLES) > 10
    whole = {path.stem.rsplit("-seed", 1)[0] for path in BUNDLES if "-missing" not in path.stem}
    assert set(rows()) == whole
    lost = [path.stem for path in BUNDLES if "-missing" in path.stem]
    assert {re.split("--(video|current)-missing", stem)[0] for stem in lost} <= whole
    assert set(LEFT) == {path.stem.rsplit("-seed", 1)[0] for path in LEFT_OUT}
    assert sum(path.stat().st_size for path in RESULTS.rglob("*") if path.is_file()) < 10_000_000


@pytest.mark.parametrize("slug", sorted(rows()))
def test_a_rows_figures_are_its_bundles(slug):
    own, row = bundle(f"{slug}-seed0"), rows()[slug]
    assert own.card["meta"]["simulated"] is True
    assert own.receipt["corrupt"] is None
    assert row[3] == shown(own, "accuracy")
    values = [own.score["metrics"]["f1"], own.score["metrics"]["miou"], own.score["ranking"]["auroc"]]
    assert row[5:] == ["-" if value is None else f"{value:.3f}" for value in values]
    _, parameters, minutes, _, error = COSTS[slug]
    assert (parameters, error) == (f"{own.card['parameters']:,}", f"{own.score['calibration']['ece']:.3f}")
    assert minutes == f"{own.card['train_seconds'] / 60:.1f}"
    others = [RESULTS / f"{slug}-seed{seed}.fmfb" for seed in (1, 2)]
    told = [f"{read_bundle(path).score['metrics']['accuracy']:.3f}" for path in others if path.exists()]
    assert row[4] == (", ".join(told) or "-")


@pytest.mark.parametrize("slug", sorted(WORLDS))
def test_with_a_sensor_lost_too(slug):
    lost = [bundle(f"{slug}--{world}-seed0") for world in ("video-missing", "current-missing")]
    assert [own.receipt["corrupt"] for own in lost] == ["video-missing", "current-missing"]
    assert WORLDS[slug][1:] == [shown(own, "accuracy") for own in (bundle(f"{slug}-seed0"), *lost)]


@pytest.mark.parametrize("path", LEFT_OUT, ids=lambda path: path.stem)
def test_with_a_recording_left_out_too(path):
    own = read_bundle(path)
    apart = [part["metrics"]["accuracy"] for _, part in sorted(own.score["recordings"].items())]
    assert own.score["split"] == "train"
    assert LEFT[path.stem.rsplit("-seed", 1)[0]][1:] == [
        shown(own, "accuracy"),
        *(f"{value:.3f}" for value in apart),
    ]


def test_they_are_of_one_store_of_the_current_furnace():
    assert len({read_bundle(path).receipt["fingerprint"] for path in [*BUNDLES, *LEFT_OUT, *TWICE]}) == 1
    (count,) = {read_bundle(path).score["num_samples"] for path in [*BUNDLES, *TWICE]}
    assert f"On FMF-Sim {VERSION} (simulated), {count:,} test samples" in card()
    assert f"{count:,} of 50,000" in card()


def test_every_trained_row_has_its_curve():
    found = curves(RESULTS / "curves.csv")
    assert {len(losses) for losses in found.values()} == {EPOCHS}
    trained = {tuple(path.stem.rsplit("-seed", 1)) for path in BUNDLES if "--" not in path.stem}
    assert {own for own in trained if own[0] not in WITHOUT_CURVES} <= set(found)
    assert all(losses[0] > losses[-1] for losses in found.values())
    told = re.findall(r"`([\w-]+)` (-?\d+ %)", card().split("of the loss's whole fall")[1].split("\n\n")[0])
    first = {name: losses for (name, seed), losses in found.items() if seed == "0" and "--loro" not in name}
    assert dict(told) == {name: last_quarter(losses) for name, losses in first.items()}


def test_rows_of_twice_the_steps_are_their_bundles_too():
    lines = lines_under("Twice the steps")
    names = {f"{line[0].strip('`')}-seed{line[1]}" for line in lines}
    assert names == {path.stem for path in TWICE}
    once, twice = curves(RESULTS / "curves.csv"), curves(RESULTS / "twice" / "curves.csv")
    assert {len(losses) for losses in twice.values()} == {2 * EPOCHS}
    for row, seed, before, after, difference, masks, shares in lines:
        slug = row.strip("`")
        own = [bundle(f"{slug}-seed{seed}"), read_bundle(RESULTS / "twice" / f"{slug}-seed{seed}.fmfb")]
        accuracy = [one.score["metrics"]["accuracy"] for one in own]
        assert [before, after] == [f"{value:.3f}" for value in accuracy]
        assert difference.split(" [")[0] == f"{accuracy[1] - accuracy[0]:+.3f}"
        miou = [one.score["metrics"]["miou"] for one in own]
        assert masks == ("-" if None in miou else ", ".join(f"{value:.3f}" for value in miou))
        assert shares == ", ".join(last_quarter(found[slug, seed]) for found in (once, twice))


def test_what_the_page_shows_is_there():
    for link in re.findall(r"\]\((results/[^)]+)\)", card()):
        assert (CARDS / link).is_file(), link
    (page,) = RESULTS.glob("page/index.html")
    for link in re.findall(r'(?:href|src)="([^"#]+)"', page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), link
