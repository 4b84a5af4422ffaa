import json

import numpy as np
import pytest
from scipy.stats import t

from fmfbench.errors import PredictionError
from fmfbench.exchange.labels import labels_from_dataset
from fmfbench.exchange.predictions import write_predictions
from fmfbench.scoring.compare import compare
from fmfbench.scoring.score import score
from fmfbench.store.splits import per_second_rows


@pytest.fixture
def pair(make_data, tmp_path):
    data = make_data(3, lengths=(6000, 5000))
    rng = np.random.default_rng(0)
    ids = data.sample_ids("test")
    label = data.class_labels(ids)
    paths = []
    for number, skill in enumerate((0.6, 0.35)):
        p = np.clip(label * skill + rng.random(len(ids)) * (1 - skill) + 0.05, 0, 1)
        order = rng.permutation(len(ids))
        paths.append(write_predictions(tmp_path / f"{number}.npz", sample_id=ids[order], score=p[order]))
    return data, *paths


def test_differences_are_those_of_the_scores(pair):
    data, first, second = pair
    result = compare(first, second, data, resamples=400).to_dict()
    json.dumps(result, allow_nan=False)
    one, two = (score(path, data, resamples=50) for path in (first, second))
    for name, row in result["metrics"].items():
        mine = one.metrics.get(name, one.evidence.ranking.get(name))
        theirs = two.metrics.get(name, two.evidence.ranking.get(name))
        assert (row["first"], row["second"]) == (mine, theirs)
        if mine is not None:
            assert row["difference"] == mine - theirs
            assert row["low"] <= row["difference"] <= row["high"]
    assert result["metrics"]["accuracy"]["verdict"] == "first is higher"
    assert compare(second, first, data, resamples=400).rows["accuracy"]["verdict"] == "second is higher"
    assert result["metrics"]["miou"]["verdict"] == "undefined"


def test_per_second_files_are_compared_when_asked_for(pair, tmp_path):
    data, first, second = pair
    rows = per_second_rows(
        *(getattr(labels_from_dataset(data, "test"), n) for n in ("recording", "frame_time"))
    )
    ids, files = data.sample_ids("test")[rows], []
    for path in (first, second):
        with np.load(path) as arrays:
            p = arrays["score"][np.argsort(arrays["sample_id"])][rows]
        meta = {"sample_set": "per-second"}
        files.append(write_predictions(tmp_path / f"s{path.name}", sample_id=ids, score=p, meta=meta))
    result = compare(*files, data, resamples=50, per_second=True)
    assert result.to_dict()["sample_set"] == "per-second"
    assert "per-second sample set" in result.to_markdown()
    assert result.num_samples == rows.sum()
    with pytest.raises(PredictionError, match="--per-second"):
        compare(*files, data, resamples=50)


def test_nothing_to_compare(pair, tmp_path):
    data, _, _ = pair
    for recording in data.recordings.values():
        recording.split[recording.split == 2] = 0
    empty = write_predictions(tmp_path / "e.npz", sample_id=np.zeros(0, int), score=np.zeros(0))
    assert score(empty, data, "unused").metrics["accuracy"] is None
    with pytest.raises(PredictionError, match="no samples"):
        compare(empty, empty, data, "unused")


def test_the_interval_of_the_difference_is_the_paired_t_interval(pair):
    """For accuracy with equal blocks it is the t interval of the blocks' differences."""
    data, first, second = pair
    result = compare(first, second, data, resamples=20_000, block_seconds=10)
    ids = data.sample_ids("test")
    label = data.class_labels(ids)
    right = []
    for path in (first, second):
        with np.load(path) as arrays:
            p = arrays["score"][np.argsort(arrays["sample_id"])]
        right.append((p > 0.5) == label)
    differences = right[0].astype(float) - right[1]
    differences -= differences.mean()  # a ratio's linear part: blocks beside a gap hold fewer frames
    variance, place, blocks = 0.0, 0, 0
    for recording in data.recordings.values():
        part = differences[place : place + (recording.split == 1).sum()]
        times = recording.frame_time[recording.split == 1]
        place += len(part)
        span = (times[-1] - times[0]) / 1e9 + 0.04
        count = round(span / 10)
        block = np.minimum(((times - times[0]) / 1e9 * count / span).astype(int), count - 1)
        sums = np.bincount(block, part)
        variance += len(sums) * sums.var(ddof=1)
        blocks += len(sums)
    half = t.ppf(0.975, blocks - 2) * variance**0.5 / len(label)
    row = result.rows["accuracy"]
    assert row["high"] - row["low"] == pytest.approx(2 * half, rel=0.06)


def test_a_file_against_itself_is_the_same(pair):
    data, first, _ = pair
    rows = compare(first, first, data, resamples=50).rows
    assert rows["accuracy"]["verdict"] == rows["auroc"]["verdict"] == "the same"


def test_alike_submissions_cannot_be_told_apart(pair, tmp_path):
    data, _, second = pair
    ids = data.sample_ids("test")
    noise = np.random.default_rng(7).random(len(ids))
    p = np.clip(data.class_labels(ids) * 0.35 + noise * 0.65 + 0.05, 0, 1)
    other = write_predictions(tmp_path / "other.npz", sample_id=ids, score=p)
    result = compare(second, other, data, resamples=400)
    assert result.rows["accuracy"]["verdict"] == "cannot be told apart"
    assert "cannot be told apart" in result.to_markdown()


def test_a_bad_file_is_refused(pair, tmp_path):
    data, first, _ = pair
    np.savez(tmp_path / "bad.npz", sample_id=[1], score=[0.5])
    with pytest.raises(PredictionError, match=r"bad\.npz"):
        compare(first, tmp_path / "bad.npz", data)


def test_decisions_alone_have_no_ranking(pair, tmp_path):
    data, first, _ = pair
    ids = data.sample_ids("test")
    other = write_predictions(tmp_path / "other.npz", sample_id=ids, pred=np.zeros(len(ids), bool))
    assert "auroc" not in compare(first, other, data, resamples=50).rows


@pytest.mark.parametrize("value", ["mist", {"preset": "mist", "seed": 1}])
def test_clean_and_corrupted_input_are_set_against_each_other_only_when_asked(pair, tmp_path, value):
    data, first, second = pair
    with np.load(second) as arrays:
        np.savez(tmp_path / "c.npz", **{k: v for k, v in arrays.items() if k != "meta"},
                 meta=np.array(json.dumps({"corrupt": value})))  # fmt: skip
    corrupted = tmp_path / "c.npz"
    with pytest.raises(PredictionError, match=r"CORRUPTED INPUT .*mist.*--across-corruption"):
        compare(first, corrupted, data, resamples=50)
    asked = compare(first, corrupted, data, resamples=50, across_corruption=True)
    assert "mist" in asked.corrupt[1]
    assert asked.corrupt[0] is None
    assert "WARNING: CORRUPTED INPUT: c.npz" in asked.to_markdown()
    both = compare(corrupted, corrupted, data, resamples=50)
    assert both.corrupt[0] == both.corrupt[1]


def test_which_is_better_goes_by_the_metrics_direction(pair, tmp_path):
    data, _, _ = pair
    ids = data.sample_ids("test")
    label = data.class_labels(ids)
    wrong = np.random.default_rng(0).random(len(ids)) < 0.4
    first = write_predictions(tmp_path / "poor.npz", sample_id=ids, pred=label ^ wrong)
    perfect = write_predictions(tmp_path / "perfect.npz", sample_id=ids, pred=label)
    rows = compare(first, perfect, data, resamples=200).rows
    for name in ("accuracy", "f1", "fdr", "mdr"):
        assert rows[name]["better"] == "second", name
    assert rows["fdr"]["verdict"] == "first is higher"
    assert rows["miou"]["better"] is None


def test_how_much_test_time_a_difference_would_need(pair, tmp_path):
    """Four times the time halves the interval: a difference of half its half width needs four times the time."""
    data, first, second = pair
    ids = data.sample_ids("test")
    noise = np.random.default_rng(7).random(len(ids))
    p = np.clip(data.class_labels(ids) * 0.35 + noise * 0.65 + 0.05, 0, 1)
    other = write_predictions(tmp_path / "other.npz", sample_id=ids, score=p)
    result = compare(second, other, data, resamples=400)
    row = result.rows["accuracy"]
    half = row["high"] - row["difference"]
    hours = (
        sum(int((r.split == 1).sum()) * 0.04 + 5 for r in data.recordings.values()) / 3600
    )  # a gap of 5 s in each
    assert row["needed_hours"] == pytest.approx(hours * (half / abs(row["difference"])) ** 2, rel=0.01)
    assert row["needed_samples"] == pytest.approx(row["needed_hours"] / hours * len(ids), abs=1)
    assert f"h of test time ({row['needed_samples']:,} samples) would show it" in result.to_markdown()
    assert compare(first, second, data, resamples=400).rows["accuracy"]["needed_hours"] is None
    assert compare(first, first, data, resamples=50).rows["accuracy"]["needed_hours"] is None
