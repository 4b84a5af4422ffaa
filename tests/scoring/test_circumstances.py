"""What the simulator knows beside the score: bands of visibility, and truths that do not belong.

Also tests fmfbench.exchange: truth.
Also tests fmfbench.scoring: evidence_rows.
"""

import json
import re
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from fmfbench.errors import PredictionError
from fmfbench.exchange.labels import labels_from_dataset
from fmfbench.exchange.predictions import write_predictions
from fmfbench.exchange.truth import QUANTITIES, read_truth
from fmfbench.scoring.circumstances import BANDS, around_onset, onset_title
from fmfbench.scoring.events import match_events
from fmfbench.scoring.evidence_rows import occlusion_rows
from fmfbench.scoring.metrics import COUNT_METRICS
from fmfbench.scoring.score import score


def arrays_of(recording, rng):
    length = recording.num_frames
    meta = {"name": "FMF-Sim", "version": "9.9", "recording": recording.name, "seed": 4}
    return {
        "meta": np.array(json.dumps(meta)),
        "visibility": rng.random(length).astype("f4"),
        "mist_depth": rng.exponential(1, length).astype("f4"),
        "glare": (rng.exponential(100, length) * (rng.random(length) < 0.5)).astype("f4"),
        "reflections": rng.integers(0, 3, length).astype("i2"),
        "event": recording.class_label.astype("i4") - 1,
    }


@pytest.fixture
def simulated(make_data, tmp_path):
    """Two recordings, the arrays of their truth, a function that writes them, and a prediction file."""
    data, rng = make_data(3, lengths=(1500, 1100)), np.random.default_rng(1)
    arrays = {name: arrays_of(recording, rng) for name, recording in data.recordings.items()}
    folder = tmp_path / "truth"
    folder.mkdir()

    def write():
        for name, own in arrays.items():
            np.savez(folder / f"{name}.npz", **own)
        return folder

    ids = data.sample_ids("test")
    file = write_predictions(
        tmp_path / "p.npz",
        sample_id=ids,
        score=np.clip(data.class_labels(ids) * 0.3 + rng.random(len(ids)) * 0.7, 0, 1),
        mask=data.test_masks() ^ (rng.random(data.test_masks().shape) < 0.05),
    )
    return data, arrays, write, file


def by_hand(data, arrays):
    """(band, rows of the test split) of each band, from the plain arrays."""
    parts = [r.split == 1 for r in data.recordings.values()]
    for quantity, edges in BANDS.items():
        own = [arrays[name][quantity][part] for name, part in zip(arrays, parts, strict=True)]
        values = np.concatenate(own)
        for low, high in pairwise(edges):
            yield quantity, low, (values >= low) & (values < high)


def test_bands_are_those_of_sklearn(simulated):
    data, arrays, write, file = simulated
    result = score(file, data, truth=write(), resamples=50)
    occlusion = result.to_dict()["occlusion"]
    json.dumps(occlusion, allow_nan=False)
    assert occlusion["source"] == "FMF-Sim 9.9, seed 4"
    with np.load(file) as archive:
        call = (archive["score"] > 0.5).astype(int)
        guess = np.unpackbits(archive["mask_bits"], axis=1)[:, :63].reshape(-1, 7, 9)
    ids, truth = data.sample_ids("test"), data.test_masks()
    label = data.class_labels(ids)
    rows = list(by_hand(data, arrays))
    assert len(rows) == len(occlusion["bands"])
    for (quantity, low, inside), band in zip(rows, occlusion["bands"], strict=True):
        assert (band["of"], band["from"]) == (quantity, low)
        assert (band["num_samples"], band["abnormal"]) == (inside.sum(), label[inside].sum())
        tn, fp, fn, tp = confusion_matrix(label[inside], call[inside], labels=[0, 1]).ravel()
        metrics = band["metrics"]
        assert metrics["accuracy"] == accuracy_score(label[inside], call[inside])
        assert metrics["f1"] == pytest.approx(f1_score(label[inside], call[inside]))
        assert metrics["fdr"] == fp / (fp + tn)
        assert metrics["mdr"] == fn / (fn + tp)
        a, b = truth[inside].astype(bool), guess[inside].astype(bool)
        ious = [(x & y).sum() / (x | y).sum() for x, y in ((a, b), (~a, ~b))]
        assert metrics["miou"] == pytest.approx(np.mean(ious))
    for quantity in BANDS:
        assert sum(band["num_samples"] for band in occlusion["bands"] if band["of"] == quantity) == len(ids)


def test_an_empty_band_is_undefined_with_its_reason(simulated):
    data, arrays, write, file = simulated
    for own in arrays.values():
        own["visibility"][:] = 0.95
    bands = score(file, data, truth=write(), resamples=50).evidence.occlusion["bands"]
    assert bands[0]["metrics"]["accuracy"] is None
    assert bands[0]["undefined"]["accuracy"] == "no samples"
    assert bands[3]["num_samples"] == len(data.sample_ids("test"))


def test_visibility_of_exactly_one_is_in_the_last_band(simulated):
    data, arrays, write, file = simulated
    for own in arrays.values():
        own["visibility"][:] = 1.0
    bands = score(file, data, truth=write(), resamples=50).evidence.occlusion["bands"]
    assert bands[3]["num_samples"] == len(data.sample_ids("test"))


def test_the_table_says_that_it_is_simulated(simulated):
    data, _, write, file = simulated
    assert "visibility" not in score(file, data, resamples=50).to_markdown()
    text = score(file, data, truth=write(), resamples=50).to_markdown()
    assert "FMF-Sim 9.9, seed 4; not a measurement on a furnace" in text
    for title in ("visibility 0.1 to 0.5", "optical depth of mist 2 or more", "no red reflections"):
        assert f"| {title} |" in text
    assert "| 2 to 0 s before |" in text
    assert score(file, data, resamples=50).to_dict()["occlusion"] is None


def test_a_label_file_serves_as_well(simulated):
    data, _, write, file = simulated
    own = labels_from_dataset(data)
    first = score(file, data, truth=write(), resamples=50).evidence
    assert first.occlusion == score(file, own, truth=write(), resamples=50).evidence.occlusion


def change(arrays, key, value):
    arrays["furnace_1"][key] = value


def drop(arrays, key):
    del arrays["furnace_1"][key]


def shorten(arrays, by):
    arrays["furnace_1"] |= {key: arrays["furnace_1"][key][:-by] for key in (*QUANTITIES, "event")}


SPOILS = {
    "expected the recording's 1100 frames, got 1099": lambda a: shorten(a, 1),
    "got none called glare": lambda a: drop(a, "glare"),
    "got none called meta": lambda a: drop(a, "meta"),
    "expected one number a frame": lambda a: change(a, "glare", a["furnace_1"]["glare"][:-1]),
    "expected one number a frame, got shape .* of type bool": lambda a: change(
        a, "glare", np.zeros(1100, bool)
    ),
    "visibility: expected numbers from 0 to 1, got others in 1 frames": lambda a: a["furnace_1"][
        "visibility"
    ].put(3, 1.5),
    "mist_depth: expected numbers from 0 to inf, got others in 2": lambda a: a["furnace_1"]["mist_depth"].put(
        [3, 9], [np.nan, -1]
    ),
    "expected the meta of recording 'furnace_1', got that of 'furnace_0'": lambda a: change(
        a, "meta", a["furnace_0"]["meta"]
    ),
    "expected a meta that names simulator": lambda a: change(a, "meta", np.array("[1]")),
    "pickled objects": lambda a: change(a, "event", np.array([None] * 1100)),
    "as those of another seed do": lambda a: change(a, "event", -1 - a["furnace_1"]["event"]),
}


@pytest.mark.parametrize("words", SPOILS)
def test_truth_of_other_recordings_is_refused(simulated, words):
    data, arrays, write, file = simulated
    SPOILS[words](arrays)
    with pytest.raises(PredictionError) as caught:
        score(file, data, truth=write(), resamples=50)
    text = str(caught.value)
    assert re.search(words, text)
    assert "furnace_1.npz: not the truth of recording furnace_1: " in text
    assert "\n" not in text


def test_a_short_truth_is_refused_by_a_label_file_too(simulated):
    data, arrays, write, _ = simulated
    shorten(arrays, 1)
    with pytest.raises(
        PredictionError, match="expected more than 1099 frames, which the labels reach, got 1099"
    ):
        read_truth(write(), labels_from_dataset(data))


def test_a_few_frames_of_other_labels_are_allowed(simulated):
    data, arrays, write, _ = simulated
    event = arrays["furnace_1"]["event"]
    event[:100] = -1 - event[:100]
    assert read_truth(write(), labels_from_dataset(data)).source == "FMF-Sim 9.9, seed 4"
    event[100:150] = -1 - event[100:150]
    with pytest.raises(PredictionError, match="150 of 1100 frames"):
        read_truth(write(), labels_from_dataset(data))


def test_no_folder_no_file_no_evidence(simulated, tmp_path):
    data, _, write, file = simulated
    with pytest.raises(PredictionError, match="got nothing"):
        score(file, data, truth=tmp_path / "none")
    with pytest.raises(PredictionError, match="got a file"):
        score(file, data, truth=file)
    (write() / "furnace_0.npz").unlink()
    with pytest.raises(PredictionError, match=r"furnace_0\.npz.*got nothing"):
        score(file, data, truth=tmp_path / "truth")
    with pytest.raises(PredictionError, match="without compat"):
        score(file, data, truth=write(), compat="official")


def test_names_that_are_paths_open_nothing(simulated):
    data, _, write, _ = simulated
    labels = labels_from_dataset(data)
    object.__setattr__(labels, "recordings", ("../p", "furnace_1"))
    with pytest.raises(PredictionError, match="expected a plain name, got the path"):
        read_truth(write(), labels)


def test_around_onset_by_brute_force(make_data):
    labels = labels_from_dataset(make_data(8, lengths=(3000, 2500)), "test")
    rng = np.random.default_rng(0)
    call = (labels.class_label ^ (rng.random(len(labels)) < 0.3)).astype(np.uint8)
    events = match_events(labels.class_label, call, labels.recording, labels.frame_time).events
    found = {onset_title(row): row for row in around_onset(labels, call, events)}
    seconds = labels.frame_time / 1e9
    expected = {title: [] for title in found}
    for row in range(len(labels)):
        same = [first for first, _ in events if labels.recording[first] == labels.recording[row]]
        right = call[row] == labels.class_label[row]
        if labels.class_label[row]:
            away = seconds[row] - seconds[max(first for first in same if first <= row)]
            names = ["0 to 1", "1 to 2", "2 to 5", "5 to 10", "10 to 30"]
            place = np.digitize(away, [1, 2, 5, 10, 30])
            expected["30 s after, or later" if place == 5 else f"{names[place]} s after"].append(right)
        elif later := [first for first in same if first > row]:
            away = seconds[later[0]] - seconds[row]
            names = ["2 to 0", "5 to 2", "10 to 5", "30 to 10"]
            place = np.digitize(away, [2, 5, 10, 30], right=True)
            expected["more than 30 s before" if place == 4 else f"{names[place]} s before"].append(right)
    assert sum(map(bool, expected.values())) >= 7
    for title, rights in expected.items():
        assert found[title]["frames"] == len(rights)
        assert found[title]["accuracy"] == (pytest.approx(np.mean(rights)) if rights else None)
    assert around_onset(labels, call, events[:0]) == []


def test_rows_of_what_hides_the_anomaly_count_normal_and_abnormal_samples():
    band = {"of": "visibility", "from": 0.1, "to": 0.5, "num_samples": 12, "abnormal": 5}
    evidence = SimpleNamespace(occlusion={"bands": [band | {"metrics": dict.fromkeys(COUNT_METRICS)}]})
    (row,) = occlusion_rows(evidence)
    assert row[:3] == ("visibility 0.1 to 0.5", "7", "5")


def test_bands_are_those_of_the_protocol_card():
    """The card's table, which figures of different versions are set side by side by."""
    card = (Path(__file__).parents[2] / "data_cards" / "protocol.md").read_text(encoding="utf-8")
    rows = {
        cells[1].strip().split(",")[0].split(" in ")[0]: [float(v) for v in cells[2].split(",")]
        for line in card.splitlines()
        if len(cells := line.split("|")) == 5 and re.fullmatch(r"[\d., ]+", cells[2])
    }
    names = {
        "visibility": "visibility",
        "mist_depth": "optical depth of mist",
        "glare": "glare",
        "reflections": "red reflections",
    }
    for quantity, edges in BANDS.items():
        assert rows[names[quantity]] == list(edges[:-1]), rows
