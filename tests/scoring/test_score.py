"""The score of a prediction file, against counts of scikit-learn, and what cannot be scored.

Also tests fmfbench.scoring: receipt, result.
"""

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from fmfbench.errors import PredictionError
from fmfbench.exchange.labels import labels_from_dataset, write_labels
from fmfbench.exchange.predictions import write_predictions
from fmfbench.scoring import metrics
from fmfbench.scoring import score as scoring
from fmfbench.scoring.metrics import COUNT_METRICS
from fmfbench.scoring.receipt import PASSING
from fmfbench.scoring.score import score
from fmfbench.windows.protocol import get_protocol


def truth_of(data, split="test"):
    ids = data.sample_ids(split)
    return ids, data.class_labels(ids), data.test_masks()


def test_score_equals_scikit_learns_counts(data, guess, save):
    result = score(save(guess), data)
    order = np.argsort(guess["sample_id"])
    _, label, mask = truth_of(data)
    (tn, fp), (fn, tp) = confusion_matrix(label, guess["score"][order] > 0.5).tolist()
    (ptn, pfp), (pfn, ptp) = confusion_matrix(mask.ravel(), guess["mask"][order].ravel()).tolist()
    assert result.to_dict()["counts"] == {
        "frame": {"tn": tn, "fp": fp, "fn": fn, "tp": tp},
        "pixel": {"tn": ptn, "fp": pfp, "fn": pfn, "tp": ptp},
    }
    assert (
        result.metrics.items()
        >= {
            "accuracy": (tn + tp) / len(label),
            "f1": 2 * tp / (2 * tp + fp + fn),
            "fdr": fp / (fp + tn),
            "mdr": fn / (fn + tp),
            "miou": (ptn / (ptn + pfp + pfn) + ptp / (ptp + pfp + pfn)) / 2,
        }.items()
    )
    assert result.num_samples == len(label)


def test_a_label_file_gives_the_same_score(data, guess, save, tmp_path):
    labels = labels_from_dataset(data)
    path = write_labels(tmp_path / "labels.npz", labels)

    def repeated(source):
        document = score(save(guess), source).to_dict()
        return document | {"receipt": {k: v for k, v in document["receipt"].items() if k not in PASSING}}

    expected = repeated(data)
    assert repeated(path) == repeated(str(path)) == repeated(labels) == expected


def test_decisions_come_before_scores(data, guess, save):
    guess["pred"] = (guess["score"] <= 0.5).astype(int)
    flipped = score(save(guess), data)
    del guess["pred"]
    plain = score(save(guess), data)
    assert flipped.metrics["accuracy"] == pytest.approx(1 - plain.metrics["accuracy"])
    assert (flipped.decision, plain.decision) == ("pred", "score > 0.5")


def test_perfect_is_exactly_one(data, tmp_path):
    ids, label, mask = truth_of(data)
    path = write_predictions(tmp_path / "p.npz", sample_id=ids, pred=label, mask=mask)
    assert score(path, data).metrics == {
        name: float(metrics.metric(name).higher_is_better) for name in COUNT_METRICS
    }


def test_all_normal_on_an_all_normal_split(data, tmp_path):
    for recording in data.recordings.values():
        recording.masks[recording.split == 1] = 0
        recording.class_label[recording.split == 1] = 0
    ids, _, mask = truth_of(data)
    path = write_predictions(tmp_path / "p.npz", sample_id=ids, score=np.zeros(len(ids)), mask=mask)
    result = score(path, data).to_dict()
    known = {"accuracy": 1.0, "f1": None, "fdr": 0.0, "mdr": None, "miou": None}
    assert {name: result["metrics"][name] for name in known} == known
    assert set(result["undefined"]) & set(known) == {"f1", "mdr", "miou"}
    json.dumps(result, allow_nan=False)
    official = score(path, data, compat="official")
    assert official.metrics["miou"] == pytest.approx(0.5)
    assert official.metrics["miou"] < 0.5
    assert official.metrics["mdr"] == 0.0
    assert official.compat == "official"


def test_a_metric_that_the_released_code_lacks_is_undefined_there(data, guess, save, monkeypatch):
    """As a new one is, whose entry in the table says nothing of the released code."""
    monkeypatch.setitem(metrics._BY_NAME, "fdr", replace(metrics.metric("fdr"), official=None))
    result = score(save(guess), data, compat="official")
    assert result.metrics["fdr"] is None
    assert result.undefined["fdr"] == "the authors' released evaluation code has no such metric"
    assert result.metrics["mdr"] is not None
    assert "no such metric" in result.to_markdown()
    assert score(save(guess), data).metrics["fdr"] is not None


@pytest.mark.parametrize(
    ("count", "words"), [(1, "1 alarm; 1 false alarm in "), (2, "2 alarms; 2 false alarms in ")]
)
def test_alarms_are_counted_in_words(data, guess, save, count, words):
    found = score(save(guess), data, resamples=50)
    facts = dict(found.evidence.event_facts) | {"alarms": count, "false_alarms": count}
    assert words in replace(found, evidence=replace(found.evidence, event_facts=facts)).to_markdown()


def test_no_mask_leaves_only_miou_undefined(data, guess, save):
    del guess["mask"]
    result = score(save(guess), data)
    of_pixels = [name for name in COUNT_METRICS if metrics.metric(name).counted == "pixels"]
    assert result.undefined == dict.fromkeys(of_pixels, "no mask in the file")
    assert "undefined: no mask in the file" in result.to_markdown()


def test_data_without_masks(data, guess, save):
    data.default_layer = None
    result = score(save(guess), data)
    assert "only class labels" in result.undefined["miou"]
    assert result.metrics["accuracy"] is not None


def test_unlabelled_samples_are_an_error(data, guess, save):
    data.recordings["furnace_1"].class_label[-3:] = 255
    with pytest.raises(PredictionError, match="got 3 without: 497, 498, 499"):
        score(save(guess), data)


def test_ids_only_cannot_be_scored_against(data, guess, save, tmp_path):
    path = write_labels(tmp_path / "ids.npz", labels_from_dataset(data), ids_only=True)
    with pytest.raises(PredictionError, match="ids only"):
        score(save(guess), path)


def test_another_split_is_named(data, guess, save):
    with pytest.raises(PredictionError, match="samples of split train are missing: 0, 1, 2, 3, 4, "):
        score(save(guess), data, split="train")


def test_other_data_is_refused(data, guess, save):
    path = save(guess | {"meta": np.array(json.dumps({"fingerprint": "beef"}))})
    with pytest.raises(PredictionError, match="fingerprint beef"):
        score(path, data)
    data.fingerprint = "beef"
    assert score(path, data).fingerprint == "beef"


def test_strict_asks_for_exactly_the_protocols_samples(data, guess, tmp_path, monkeypatch):
    strict = data.sample_ids("test")[40:]
    asked = []
    monkeypatch.setattr(scoring, "strict_ids", lambda data, *what: asked.append(what) or strict)
    kept = np.isin(guess["sample_id"], strict)
    rows = {name: array[kept] for name, array in guess.items()}
    meta = {"context": "strict", "protocol": "short"}
    path = write_predictions(tmp_path / "p.npz", **rows, meta=meta)
    result = score(path, data, context="strict", protocol="short")
    assert asked == [("test", get_protocol("short"))]
    assert result.num_samples == len(strict)
    assert (result.context, result.protocol) == ("strict", "short")
    with pytest.raises(PredictionError, match=r"are missing.*--context strict --protocol short"):
        score(path, data)
    whole = write_predictions(tmp_path / "q.npz", **guess)
    with pytest.raises(PredictionError, match="40 sample ids are not in split test"):
        score(whole, data, context="strict", protocol="short")
    with pytest.raises(PredictionError, match="expected a store, for"):
        score(path, labels_from_dataset(data), context="strict")


@pytest.mark.parametrize("option", [{"compat": "Official"}, {"context": "loose"}])
def test_unknown_options(data, guess, save, option):
    with pytest.raises(PredictionError, match="expected"):
        score(save(guess), data, **option)


def test_an_empty_split_is_undefined_throughout(data, tmp_path):
    for recording in data.recordings.values():
        recording.split[:] = 0
    path = write_predictions(tmp_path / "p.npz", sample_id=np.empty(0, int), score=np.empty(0))
    assert set(score(path, data).undefined) == set(COUNT_METRICS)


def test_the_per_second_sample_set_stands_by_itself(data, guess, tmp_path):
    labels = labels_from_dataset(data, "test")
    seconds = labels.frame_time // 1_000_000_000
    last = {(r, s): i for r, s, i in zip(labels.recording, seconds, labels.sample_id, strict=True)}
    kept = np.isin(guess["sample_id"], list(last.values()))
    rows = {name: array[kept] for name, array in guess.items()}
    path = write_predictions(tmp_path / "p.npz", **rows, meta={"sample_set": "per-second"})
    result = score(path, data, per_second=True, resamples=50)
    assert result.num_samples == len(last)
    assert result.to_dict()["sample_set"] == "per-second"
    assert "PER-SECOND SAMPLE SET" in result.to_markdown()
    with pytest.raises(PredictionError, match=r"are missing.*--per-second"):
        score(path, data)
    whole = write_predictions(tmp_path / "q.npz", **guess, meta={"sample_set": "every frame"})
    with pytest.raises(PredictionError, match=r"not in split test.*expected per-second"):
        score(whole, data, per_second=True)


def test_derived_splits_are_scored_from_labels(make_data, tmp_path):
    data = make_data(lengths=(30_000, 190))
    labels = labels_from_dataset(data)
    ids = labels.select("val").sample_id
    assert 0 < len(ids) < 15_000 / 4
    assert np.isin(ids, data.sample_ids("train")).all()
    path = write_predictions(tmp_path / "p.npz", sample_id=ids, pred=data.class_labels(ids))
    assert score(path, labels, split="val", resamples=50).metrics["accuracy"] == 1.0
    with pytest.raises(PredictionError, match="one of train"):
        labels.select("dev")


def test_how_a_score_looks_in_a_notebook_and_on_a_prompt(data, guess, save):
    result = score(save(guess, "<p>.npz"), data)
    assert repr(result).startswith("<Score <p>.npz, test: accuracy 0.")
    html = result._repr_html_()
    assert "&lt;p&gt;.npz" in html
    assert html.count("<tr>") == 1 + len(result.shown())
    assert str(result) == result.to_text()
    assert result.figure("mdr").value == result.metrics["mdr"]
    with pytest.raises(KeyError):
        result.figure("nothing")


def test_digits_are_those_that_the_interval_supports():
    from fmfbench.scoring.figures import figure_text, interval_text
    from fmfbench.scoring.metrics import Figure

    def shown(name, value, low, high):
        figure = Figure(name=name, value=value, low=low, high=high)
        return figure_text(figure), interval_text(figure)

    assert shown("f1", 0.788847, 0.7153, 0.8508) == ("0.789", "0.715 to 0.851")
    assert shown("f1", 0.788847, 0.78421, 0.79311) == ("0.7888", "0.7842 to 0.7931")
    assert shown("false_alarms_per_hour", 88.61, 0.0, 178.0) == ("89", "0 to 178")
    assert shown("f1", 0.788847, None, None) == ("0.7888", "")
    assert figure_text(Figure(name="f1", value=None, reason="why")) == "undefined: why"
