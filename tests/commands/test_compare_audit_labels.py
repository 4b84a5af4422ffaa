"""`compare`, `audit`, `labels` and every output of `score`, from the command line.

Also tests fmfbench_cli: audit, labels.
"""

import json

import numpy as np
import pytest
from conftest_run import call as run

import fmfbench
from fmfbench.exchange.predictions import write_predictions


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    run("simulate", folder / "sim", "--preset", "tiny")
    run("convert", folder / "sim", folder / "s.zarr")
    return folder / "s.zarr"


@pytest.fixture(scope="module")
def files(store):
    data = fmfbench.open_dataset(store)
    ids = data.sample_ids("test")
    rng = np.random.default_rng(0)
    folder = store.parent / "files"
    folder.mkdir()
    for name in "ab":
        score = np.clip(data.class_labels(ids) * 0.3 + rng.random(len(ids)) * 0.7, 0, 1)
        write_predictions(
            folder / f"{name}.npz", sample_id=ids, score=score, meta={"fingerprint": data.fingerprint}
        )
    return folder


def test_labels_exported_score_as_the_store_does(store, files, tmp_path):
    document = json.loads(run("labels", "export", store, "-o", tmp_path / "l.npz", "--json").stdout)
    assert document["masks"]
    direct = json.loads(run("score", files / "a.npz", "--data", store, "--json").stdout)
    again = json.loads(run("score", files / "a.npz", "--labels", tmp_path / "l.npz", "--json").stdout)
    commands = [document["receipt"].pop("command") for document in (direct, again)]
    assert again == direct
    assert commands == [
        "fmfbench score a.npz --data s.zarr --split test",
        "fmfbench score a.npz --labels l.npz --split test",
    ]
    run("labels", "export", store, "-o", tmp_path / "ids.npz", "--split", "test", "--ids-only")
    with np.load(tmp_path / "ids.npz") as ids:
        assert "class_label" not in ids
        assert ids["sample_id"].tolist() == fmfbench.open_dataset(store).sample_ids("test").tolist()
    assert "ids only" in run("score", files / "a.npz", "--labels", tmp_path / "ids.npz", code=2).stderr


def test_a_folder_is_scored_past_its_bad_files(store, files, tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.npz").write_bytes((files / f"{name}.npz").read_bytes())
    (tmp_path / "aa.npz").write_bytes(b"no zip")
    np.savez(tmp_path / "c.npz", sample_id=np.arange(3), score=np.zeros(3))
    result = run("score", tmp_path, "--data", store, "--csv", tmp_path / "s.csv", code=2)
    assert [line.split(" | ")[0] for line in result.stdout.splitlines()[2:4]] == ["| a.npz", "| b.npz"]
    lines = result.stderr.splitlines()
    assert len(lines) == 3
    assert "aa.npz: expected an .npz file" in lines[0]
    assert "c.npz: nothing scored" in lines[1]
    assert "2 of 4 prediction files were not scored" in lines[2]
    document = json.loads(run("score", tmp_path, "--data", store, "--json", code=2).stdout)
    assert [each["file"] for each in document["scores"]] == ["a.npz", "b.npz"]
    assert [each["file"] for each in document["failed"]] == ["aa.npz", "c.npz"]
    assert {row.split(",")[0] for row in (tmp_path / "s.csv").read_text().splitlines()[1:]} == {
        "a.npz",
        "b.npz",
    }
    for name in ("a", "b"):
        (tmp_path / f"{name}.npz").unlink()
    assert run("score", tmp_path, "--data", store, code=2).stdout == ""


def test_what_is_wrong_with_the_question_is_said_once(store, files, tmp_path):
    run("labels", "export", store, "-o", tmp_path / "test.npz", "--split", "test")
    result = run("score", files, "--labels", tmp_path / "test.npz", "--split", "all", code=2)
    assert len(result.stderr.splitlines()) == 1
    assert "expected labels of split all" in result.stderr


def test_labels_of_one_split_are_not_taken_for_another(store, files, tmp_path):
    run("labels", "export", store, "-o", tmp_path / "test.npz", "--split", "test")
    direct = run("score", files / "a.npz", "--data", store, "--json").stdout
    own = json.loads(run("score", files / "a.npz", "--labels", tmp_path / "test.npz", "--json").stdout)
    assert own["metrics"] == json.loads(direct)["metrics"]
    for split in ("all", "train"):
        refused = run("score", files / "a.npz", "--labels", tmp_path / "test.npz", "--split", split, code=2)
        assert f"expected labels of split {split}, got those of split test alone" in refused.stderr


def test_score_by_what_the_simulator_knows(store, files):
    truth = store.parent / "sim" / "truth"
    document = json.loads(run("score", files / "a.npz", "--data", store, "--truth", truth, "--json").stdout)
    bands = [band for band in document["occlusion"]["bands"] if band["of"] == "visibility"]
    data, seen = fmfbench.open_dataset(store), []
    for name, recording in data.recordings.items():
        with np.load(truth / f"{name}.npz") as arrays:
            seen.append(arrays["visibility"][recording.split == 1])
    counts, _ = np.histogram(np.concatenate(seen), [0, 0.1, 0.5, 0.9, 2])
    assert [band["num_samples"] for band in bands] == counts.tolist()
    assert "FMF-Sim" in run("score", files / "a.npz", "--data", store, "--truth", truth).stdout


def test_every_output_of_score(store, files, tmp_path):
    result = run("score", files / "a.npz", "--data", store, "--report", tmp_path / "r.html",
                 "--markdown", tmp_path / "r.md", "--csv", tmp_path / "r.csv", "--json")  # fmt: skip
    accuracy = json.loads(result.stdout)["metrics"]["accuracy"]
    for name in ("r.html", "r.md"):
        assert f"{accuracy:.6f}" in (tmp_path / name).read_text()
    assert repr(accuracy) in (tmp_path / "r.csv").read_text()


def test_a_folder_gives_one_table(store, files):
    table = run("score", files, "--data", store).stdout.splitlines()
    assert [line.split()[1] for line in table[2:4]] == ["a.npz", "b.npz"]
    assert "FMF-Sim" in table[-1]
    assert len(json.loads(run("score", files, "--data", store, "--json").stdout)["scores"]) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("score", "EMPTY", "--data", "STORE"), "got none"),
        (
            ("score", "FILES", "--data", "STORE", "--bundle", "r.fmfb"),
            "expected one prediction file, got the folder",
        ),
        (("compare", "A", "A", "--data", "STORE", "--report", "r.pdf"), "a name for a page, ending in .html"),
        (("score", "A", "--data", "STORE", "--report", "none/r.html"), "existing folder"),
        (("score", "A", "--data", "NONE"), "NONE"),
        (("score", "A", "--data", "STORE", "--split", "dev"), "dev"),
        (("score", "A", "--data", "STORE", "--resamples", "0"), "at least 20 resamples"),
        (("score", "A", "--data", "STORE", "--seed", "-1"), "seed of 0 or more"),
        (("score", "A", "--data", "STORE", "--block-seconds", "inf"), "finite time"),
        (
            ("score", "A", "--data", "STORE", "--protocol", "none"),
            "expected one of paper, official, short, got 'none'",
        ),
        (("score", "A", "--data", "STORE", "--markdown", "FILES"), "got a folder"),
        (("score", "A", "--data", "STORE", "--csv", "FILES"), "got a folder"),
        (("score", "A", "--data", "STORE", "--report", "FILES"), "got a folder"),
        (("score", "A", "--data", "STORE", "--truth", "FILES"), "not the truth of recording"),
        (("compare", "A", "A", "--data", "STORE", "--resamples", "0"), "at least 20 resamples"),
        (("compare", "A", "A", "--data", "STORE", "--block-seconds", "nan"), "finite time"),
        (("compare", "A", "A", "--data", "STORE", "--block-seconds", "-1"), "finite time"),
        (("compare", "A", "A", "--data", "STORE", "--seed", "-1"), "seed of 0 or more"),
        (("labels", "export", "STORE", "-o", "FILES"), "got a folder"),
        (("score", "A", "--data", "STORE", "--block-seconds", "0"), "longer than 0 s"),
        (("compare", "A", "A"), "exactly one of"),
        (("compare", "A", "NONE", "--data", "STORE"), "got nothing"),
        (("audit", "NONE"), "NONE"),
        (("audit", "STORE", "--protocol", "none"), "protocol"),
        (("labels", "export", "NONE"), "NONE"),
        (("labels", "export", "STORE", "-o", "none/l.npz"), "existing folder"),
    ],
)
def test_bad_input_is_one_line(store, files, tmp_path, arguments, words):
    names = {"STORE": store, "FILES": files, "A": files / "a.npz", "EMPTY": tmp_path}
    result = run(*(names.get(word, word) for word in arguments), code=2)
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""


def test_compare(store, files):
    document = json.loads(run("compare", files / "a.npz", files / "b.npz", "--data", store, "--json").stdout)
    row = document["metrics"]["accuracy"]
    assert row["difference"] == row["first"] - row["second"]
    assert "verdict" in run("compare", files / "a.npz", files / "b.npz", "--data", store).stdout


@pytest.mark.parametrize("protocol", ["paper", "short", "official"])
def test_audit_agrees_with_the_window_reader(store, protocol):
    data = fmfbench.open_dataset(store)
    found = json.loads(run("audit", store, "--protocol", protocol, "--json").stdout)
    for split in ("train", "test"):
        audited = [i for row in found["splits"] if row["split"] == split for i in row["strict_left_out"]]
        assert audited == data.windows(split, protocol=protocol, context="strict").left_out.tolist()
    assert "near-duplicate" in run("audit", store, "--protocol", protocol, "--no-frames").stdout.lower()


def test_the_strict_sample_set_is_scored(store, tmp_path):
    data = fmfbench.open_dataset(store)
    ids = data.windows("train", protocol="short", context="strict").sample_ids
    assert len(ids) > 0
    meta = {"context": "strict", "protocol": "short", "fingerprint": data.fingerprint}
    path = write_predictions(tmp_path / "p.npz", sample_id=ids, pred=data.class_labels(ids), meta=meta)
    strict = ("--context", "strict", "--protocol", "short")
    document = json.loads(run("score", path, "--data", store, "--split", "train", *strict, "--json").stdout)
    assert document["metrics"]["accuracy"] == 1.0
    assert document["num_samples"] == len(ids)
    refused = run("score", path, "--data", store, "--split", "train", code=2).stderr
    assert "--context strict --protocol short" in refused


def test_pages_of_a_folder_and_of_a_pair(store, files, tmp_path):
    run("score", files, "--data", store, "--report", tmp_path / "folder.html")
    run("compare", files / "a.npz", files / "b.npz", "--data", store, "--report", tmp_path / "pair.html")
    for name in ("folder", "pair"):
        text = (tmp_path / f"{name}.html").read_text()
        assert '<meta name="viewport"' in text
        assert "Who can be told apart" in text
        assert "a.npz" in text
        assert "b.npz" in text
        assert "board.json" not in text
        assert "://" not in text


def test_a_folder_of_one_model_names_its_files(store, files, tmp_path):
    folder = tmp_path / "seeds"
    folder.mkdir()
    for name in "ab":
        with np.load(files / f"{name}.npz") as plain:
            arrays = {key: plain[key] for key in plain.files if key != "meta"}
        np.savez(folder / f"seed-{name}.npz", **arrays, meta=np.array(json.dumps({"model": "mine"})))
    run("score", folder, "--data", store, "--report", tmp_path / "folder.html")
    told = (tmp_path / "folder.html").read_text().split("<h2>Who can be told apart</h2>")[1]
    assert "mine (seed-a)" in told
    assert "mine (seed-b)" in told
