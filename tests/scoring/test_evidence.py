"""What stands beside a score: intervals, thresholds, trivial baselines, and what is noticed.

Also tests fmfbench.scoring: trivial.
"""

import json

import numpy as np
import pytest
from conftest_scores import labels_of
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, roc_auc_score

from fmfbench.errors import PredictionError
from fmfbench.exchange.labels import labels_from_dataset
from fmfbench.exchange.masks import pack_masks, unpack_masks
from fmfbench.exchange.predictions import write_predictions
from fmfbench.scoring.bootstrap import correlation_seconds, frame_seconds
from fmfbench.scoring.evidence import Tally, error_blocks
from fmfbench.scoring.metrics import COUNT_METRICS, metric
from fmfbench.scoring.orientation import orientation_ious, orientation_warning
from fmfbench.scoring.ranks import auroc, average_precision, rank
from fmfbench.scoring.score import score
from fmfbench.scoring.trivial import trivial_metrics, trivial_predictions, trivial_warnings


@pytest.fixture
def long_data(make_data):
    return make_data(3, lengths=(6000, 5000))


def guess_of(data, noise=0.3, seed=0):
    rng = np.random.default_rng(seed)
    ids = data.sample_ids("test")
    label = data.class_labels(ids)
    return ids, label, np.clip(label * 0.5 + rng.random(len(ids)) * (0.5 + noise) - noise / 2, 0, 1)


def with_meta(path, data, meta, threshold=0.7):
    ids, _, p = guess_of(data)
    return write_predictions(path, sample_id=ids, score=p, pred=p > threshold, meta=meta)


def test_everything_is_there_and_is_json(long_data, tmp_path):
    ids, label, p = guess_of(long_data)
    path = write_predictions(tmp_path / "p.npz", sample_id=ids, score=p, mask=long_data.test_masks())
    result = score(path, long_data, resamples=300).to_dict()
    json.dumps(result, allow_nan=False)
    assert result["ranking"]["auroc"] == pytest.approx(roc_auc_score(label, p))
    assert result["ranking"]["ap"] == pytest.approx(average_precision_score(label, p))
    for name in ("accuracy", "f1", "fdr", "mdr", "miou"):
        interval = result["intervals"][name]
        assert interval["low"] <= result["metrics"][name] <= interval["high"]
    for name in ("auroc", "ap"):
        interval = result["ranking"]["intervals"][name]
        assert interval["low"] < result["ranking"][name] < interval["high"]
    half = len(label) - 2500
    parts = {"furnace_0": slice(0, half), "furnace_1": slice(half, None)}
    for name, part in parts.items():
        row = result["recordings"][name]
        assert row["metrics"]["accuracy"] == accuracy_score(label[part], p[part] > 0.5)
        assert row["metrics"]["f1"] == pytest.approx(f1_score(label[part], p[part] > 0.5))
    worst = min(parts, key=lambda name: result["recordings"][name]["metrics"]["f1"])
    assert result["worst"]["f1"] == worst
    frames = sum(row["frames"] for row in result["around_onset"] if row["to_s"] is None or row["to_s"] > 0)
    assert frames == label.sum()
    assert result["threshold"] == {"value": 0.5, "origin": "fixed"}


def test_the_same_seed_gives_the_same_intervals(long_data, tmp_path):
    ids, _, p = guess_of(long_data)
    path = write_predictions(tmp_path / "p.npz", sample_id=ids, score=p)
    first = score(path, long_data, resamples=200, seed=1).to_dict()
    assert first == score(path, long_data, resamples=200, seed=1).to_dict()
    assert first["intervals"] != score(path, long_data, resamples=200, seed=2).to_dict()["intervals"]
    asked = score(path, long_data, resamples=200, block_seconds=20).to_dict()
    assert asked["bootstrap"]["block_seconds"] == 20


@pytest.mark.parametrize(
    ("meta", "origin", "warned"),
    [
        ({"threshold": 0.7, "threshold_origin": "validation"}, "validation", None),
        ({"threshold": {"value": 0.7, "from": "val split"}}, "validation", None),
        ({"threshold": 0.7, "threshold_origin": "fixed"}, "fixed", None),
        (
            {"threshold": 0.7, "threshold_origin": "best F1 on test"},
            "TUNED ON TEST",
            "THRESHOLD TUNED ON TEST",
        ),
        ({"threshold": 0.7}, "not stated", "UNKNOWN ORIGIN"),
        ({"threshold": 0.7, "threshold_origin": "evaluation split"}, "not stated", "UNKNOWN ORIGIN"),
        ({"threshold": 0.7, "threshold_origin": "val of the latest run"}, "validation", None),
        ({"threshold": 0.7, "threshold_origin": "best_on_test_set"}, "TUNED ON TEST", "TUNED ON TEST"),
        ({"threshold": 0.6, "threshold_origin": "validation"}, "validation", "PRED IS NOT SCORE > 0.6"),
    ],
)
def test_where_the_threshold_came_from(*, long_data, tmp_path, meta, origin, warned):
    result = score(with_meta(tmp_path / "p.npz", long_data, meta), long_data, resamples=50)
    assert result.evidence.threshold["origin"] == origin
    warnings = [w for w in result.evidence.warnings if "THRESHOLD" in w or "PRED IS" in w]
    assert [warned in w for w in warnings] == ([True] if warned else [])
    if warned:
        assert f"**WARNING: {warnings[0]}**" in result.to_markdown()


def test_pred_that_is_score_above_half_needs_no_word(long_data, tmp_path):
    result = score(with_meta(tmp_path / "p.npz", long_data, {}, 0.5), long_data, resamples=50)
    assert result.evidence.threshold == {"value": 0.5, "origin": "fixed"}


def test_a_stated_threshold_without_pred_is_not_used(long_data, tmp_path):
    ids, _, p = guess_of(long_data)
    path = write_predictions(tmp_path / "p.npz", sample_id=ids, score=p, meta={"threshold": 0.7})
    assert any("0.7 WAS NOT USED" in w for w in score(path, long_data, resamples=50).evidence.warnings)


def test_scores_shifted_on_test_are_said_too(long_data, tmp_path):
    ids, _, p = guess_of(long_data)
    for stated, warned in ((0.5, 1), (0.7, 0)):
        meta = {"threshold": stated, "threshold_origin": "test"}
        path = write_predictions(tmp_path / "p.npz", sample_id=ids, score=p, meta=meta)
        evidence = score(path, long_data, resamples=50).evidence
        assert sum("TUNED ON TEST" in w for w in evidence.warnings) == warned


def test_decisions_alone_of_unknown_origin(long_data, tmp_path):
    ids, label, _ = guess_of(long_data)
    path = write_predictions(tmp_path / "p.npz", sample_id=ids, pred=label)
    warnings = score(path, long_data, resamples=50).evidence.warnings
    assert any("UNKNOWN ORIGIN: pred comes without scores" in w for w in warnings)


@pytest.mark.parametrize("text", ['{"threshold": NaN}', '{"threshold": 1e999}'])
def test_meta_that_is_no_json_is_refused(data, tmp_path, text):
    ids = data.sample_ids("test")
    np.savez(tmp_path / "p.npz", sample_id=ids, score=np.zeros(len(ids)), meta=np.array(text))
    with pytest.raises(PredictionError, match="meta is not JSON"):
        score(tmp_path / "p.npz", data, resamples=50)


def test_a_threshold_of_many_digits_stays_out_of_the_document(data, tmp_path):
    ids = data.sample_ids("test")
    text = '{"threshold": 1%s}' % ("0" * 400)
    np.savez(tmp_path / "p.npz", sample_id=ids, score=np.zeros(len(ids)), meta=np.array(text))
    result = score(tmp_path / "p.npz", data, resamples=50)
    json.dumps(result.to_dict(), allow_nan=False)
    assert result.evidence.threshold == {"value": 0.5, "origin": "fixed"}


def test_the_trivial_baselines_by_hand(data):
    labels = labels_from_dataset(data, "test")
    ids, label = labels.sample_id, labels.class_label
    baselines = trivial_metrics(labels, 0.2)
    assert baselines["always normal"]["accuracy"] == 1 - label.mean()
    assert baselines["always normal"]["f1"] == 0.0
    assert baselines["always abnormal"]["f1"] == pytest.approx(f1_score(label, np.ones_like(label)))
    assert baselines["train prior"] == baselines["always normal"]
    assert trivial_metrics(labels, 0.6)["train prior"]["accuracy"] == label.mean()
    assert "train prior" not in trivial_metrics(labels, None)
    share = data.test_masks().mean()  # of pixels that are abnormal: the one class's IoU, the other's is 0
    assert baselines["always abnormal"]["miou"] == pytest.approx(share / 2)
    assert baselines["always normal"]["miou"] == pytest.approx((1 - share) / 2)
    guess = trivial_predictions(labels, None)["last-second persistence"]
    masks = unpack_masks(guess.mask_bits, labels.mask_shape)
    truth = data.test_masks()
    for row in range(len(ids)):
        earlier = [
            r
            for r in range(row)
            if labels.recording[r] == labels.recording[row]
            and labels.frame_time[r] <= labels.frame_time[row] - 1_000_000_000
        ]
        assert guess.decision[row] == (label[earlier[-1]] if earlier else 0)
        np.testing.assert_array_equal(masks[row], truth[earlier[-1]] if earlier else 0 * truth[row])


def test_not_better_than_a_trivial_baseline_is_said(data, tmp_path):
    ids = data.sample_ids("test")
    path = write_predictions(tmp_path / "p.npz", sample_id=ids, score=np.zeros(len(ids)))
    warnings = score(path, data, resamples=50).evidence.warnings
    assert any(w.startswith("NOT BETTER THAN ALWAYS NORMAL: accuracy") for w in warnings)
    better = {"accuracy": 0.9, "f1": 0.9, "miou": None}
    assert trivial_warnings(better, {"x": {"accuracy": 0.8, "f1": None, "miou": 0.5}}) == []
    assert trivial_warnings(better, {"x": {"accuracy": 0.9, "f1": None, "miou": 0.5}}) != []


TURNS = {
    "upright": lambda m: m,
    "flipped upside down": lambda m: m[:, ::-1],
    "flipped left to right": lambda m: m[:, :, ::-1],
    "turned by half": lambda m: m[:, ::-1, ::-1],
    "transposed": lambda m: m.transpose(0, 2, 1),
}


@pytest.mark.parametrize("turn", TURNS)
def test_turned_masks_are_noticed(make_data, turn):
    truth = make_data(1, sizes=((9, 9),), lengths=(400,)).recordings["furnace_0"].masks
    rng = np.random.default_rng(0)
    pred = np.ascontiguousarray(TURNS[turn](truth ^ (rng.random(truth.shape) < 0.01)))
    ious = orientation_ious(pack_masks(truth), pack_masks(pred), (9, 9))
    both = truth.any(axis=(1, 2)) & pred.any(axis=(1, 2))
    assert ious["upright"] == (truth & pred)[both].sum() / (truth | pred)[both].sum()
    warning = orientation_warning(ious)
    if turn == "upright":
        assert warning is None
    else:
        assert f"MASKS SCORE BETTER {turn.upper()}" in warning


def test_orientation_of_nothing_and_of_oblong_frames():
    empty = np.zeros((4, 8), np.uint8)
    assert orientation_ious(empty, empty, (8, 8)) == {}
    assert orientation_warning({}) is None
    full = np.full((4, 7), 255, np.uint8)
    assert "transposed" not in orientation_ious(full, full, (8, 7))


def test_many_samples_are_thinned_evenly():
    bits = np.full((5001, 8), 255, np.uint8)
    bits[::2, :4] = 0
    ious = orientation_ious(np.full_like(bits, 255), bits, (8, 8))
    assert ious["upright"] == pytest.approx(0.75, abs=0.01)


def by_brute_force(value, weights):
    """By how much a metric moves with the weight of each sample."""
    base, found = value(weights), np.zeros(len(weights))
    if base is None:
        return found
    for row in range(len(weights)):
        moved = weights.copy()
        moved[row] += 1e-5
        found[row] = (value(moved) - base) / 1e-5
    return found


@pytest.mark.parametrize("seed", range(4))
def test_blocks_are_as_long_as_the_most_correlated_of_what_metrics_are_sums_of(seed):
    rng = np.random.default_rng(seed)
    count = 400
    label = np.repeat(rng.integers(0, 2, count // 40), 40).astype(np.uint8)
    wrong = np.repeat(rng.random(count // 8) < 0.3, 8)
    p = np.clip(np.where(wrong ^ (label == 1), 0.7, 0.3) + 0.2 * rng.random(count) - 0.1, 0, 1)
    frame = np.zeros((count, 4), np.int64)
    frame[np.arange(count), 2 * label + (p > 0.5)] = 1
    pixel = np.repeat(rng.integers(1, 30, (count // 20, 4)), 20, axis=0)
    labels = labels_of(label, np.repeat([0, 1], count // 2), step=1_000_000_000)
    series = {"frames": [frame[:, 1] + frame[:, 2]], "pixels": [pixel[:, 1] + pixel[:, 2]], "scores": []}
    for name in COUNT_METRICS:
        table = frame if metric(name).counted == "frames" else pixel

        def value(weights, name=name, table=table):
            pairs = metric(name).formula(*(weights @ table))
            return sum(a / b for a, b in pairs) / len(pairs)

        series[metric(name).counted].append(by_brute_force(value, np.ones(count)))
    series["scores"] += [
        by_brute_force(lambda w, figure=figure: figure(rank(label, p), w), np.ones(count))
        for figure in (auroc, average_precision)
    ]
    step = frame_seconds(labels.recording, labels.frame_time)
    known = {
        kind: max(correlation_seconds(each.astype(float), labels.recording, step) for each in group)
        for kind, group in series.items()
    }
    blocks = error_blocks([Tally(frame=frame, pixel=pixel)], labels, None, rankings=[rank(label, p)])
    assert blocks.correlation == pytest.approx(max(known.values()), rel=1e-3)
    alone = error_blocks([Tally(frame=frame, pixel=None)], labels, None)
    assert alone.correlation == pytest.approx(known["frames"], rel=1e-3)
