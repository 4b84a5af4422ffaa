"""`fmfbench outliers make`, `predict --outliers`, `outliers score`: from a store to figures by kind."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest_run import call as run

import fmfbench
from fmfbench.exchange.outliers import read_outliers
from fmfbench.exchange.predictions import read_predictions, write_predictions


@pytest.fixture(scope="module")
def file(awkward_store, tmp_path_factory):
    path = tmp_path_factory.mktemp("outliers") / "outliers.npz"
    arguments = ["--split", "all", "--ratio", "1:1", "--protocol", "short", "--json"]
    document = json.loads(run("outliers", "make", awkward_store, "-o", path, *arguments).stdout)
    assert document["file"] == str(path)
    assert document["counts"] == read_outliers(path).counts()
    assert document["meta"]["ratio"] == [1, 1]
    return path


def test_figures_by_kind(file, tmp_path):
    made = read_outliers(file)
    score = np.where(made.kind == 2, 0.4, np.where(made.kind > 0, 0.9, 0.2))
    write_predictions(tmp_path / "p.npz", sample_id=made.sample_id, score=score)
    document = json.loads(run("outliers", "score", tmp_path / "p.npz", file, "--json").stdout)
    kinds = document["kinds"]
    assert {name: row["tpr"]["value"] for name, row in kinds.items() if name != "overall"} == {
        "attribute": 1.0,
        "cross-modal": 0.0,
        "mixed": 1.0,
    }
    assert all(row["auroc"]["value"] == 1.0 and row["fpr"]["value"] == 0.0 for row in kinds.values())
    text = run("outliers", "score", tmp_path / "p.npz", file).stdout
    assert "| attribute |" in text
    assert "1 to 1" in text


def test_any_model_predicts_on_them(file, awkward_store, tmp_path):
    data = fmfbench.open_dataset(awkward_store)
    run("train", "dcnn_svm", "--data", awkward_store, "--out", tmp_path / "run", "--epochs", "1",
        "--protocol", "short", "--set", "channels=[4]", "--set", "hidden=8", "--set", "every=9",
        "--set", "batch_size=16", "--set", "validate=false", "--device", "cpu")  # fmt: skip
    said = run("predict", tmp_path / "run", "--data", awkward_store, "--outliers", file,
               "-o", tmp_path / "p.npz", "--device", "cpu").stdout  # fmt: skip
    assert f"next: fmfbench outliers score {tmp_path / 'p.npz'} {file}" in said
    run("predict", tmp_path / "run", "--data", awkward_store, "--split", "all", "-o", tmp_path / "plain.npz",
        "--device", "cpu")  # fmt: skip
    made = read_outliers(file)
    found, plain = (read_predictions(tmp_path / name) for name in ("p.npz", "plain.npz"))
    assert np.array_equal(found.sample_id, made.sample_id)
    assert found.meta["outliers"]["seed"] == 0
    assert "outliers" not in plain.meta
    normal = made.kind == 0
    np.testing.assert_allclose(found.score[normal], plain.score[made.sample_id[normal]], atol=1e-5)
    attribute = made.kind == 1
    np.testing.assert_allclose(found.score[attribute], plain.score[made.video_id[attribute]], atol=1e-5)
    assert data.fingerprint == found.meta["fingerprint"]
    assert run("outliers", "score", tmp_path / "p.npz", file, "--resamples", "50").stdout
    both = run("predict", tmp_path / "run", "--data", awkward_store, "--outliers", file, "--per-second",
               "-o", tmp_path / "q.npz", code=2)  # fmt: skip
    assert "expected outliers or per_second, got both" in both.stderr
    assert not (tmp_path / "q.npz").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ratio", "4-1"], "expected a ratio of normal to outlying samples such as 19:1 or 1:4, got '4-1'"),
        (["--kind", "cross"], "expected kinds of attribute, cross-modal, mixed, got cross"),
        (["--abnormal", "noise"], "expected abnormal as labels or shuffled"),
        (["--every", "0"], "every"),
        (["--split", "exam"], "exam"),
    ],
)
def test_bad_input_is_one_line_and_code_2(awkward_store, tmp_path, arguments, message):
    result = run("outliers", "make", awkward_store, "-o", tmp_path / "o.npz", *arguments, code=2)
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "o.npz").exists()


def test_what_is_predicted_on_outliers_is_no_split(file, awkward_store, tmp_path):
    made = read_outliers(file)
    asked = ("predict", tmp_path, "--data", awkward_store, "--outliers", file, "-o", tmp_path / "p.npz")
    result = run(*asked, "--split", "test", code=2)
    assert "--split test: expected a split or --outliers, got both" in result.stderr
    zeros = np.zeros(len(made))
    for meta, code in (({"outliers": dict(made.meta)}, 2), ({}, 0)):
        data = fmfbench.open_dataset(awkward_store)
        ids = data.sample_ids("test")
        write_predictions(tmp_path / "p.npz", sample_id=ids, score=np.zeros(len(ids)), meta=meta)
        result = run("score", tmp_path / "p.npz", "--data", awkward_store, "--resamples", "50", code=code)
        assert ("give them to `fmfbench outliers score`" in result.stderr) == bool(code)
        write_predictions(tmp_path / "o.npz", sample_id=made.sample_id, score=zeros, meta=meta)
        run("outliers", "score", tmp_path / "o.npz", file)


def test_a_file_that_is_none_is_one_line_and_code_2(awkward_store, tmp_path):
    (tmp_path / "o.npz").write_bytes(b"no")
    for arguments in (
        ("outliers", "score", tmp_path / "o.npz", tmp_path / "o.npz"),
        (
            "predict",
            tmp_path,
            "--data",
            awkward_store,
            "--outliers",
            tmp_path / "o.npz",
            "-o",
            tmp_path / "p.npz",
        ),
    ):
        result = run(*arguments, code=2)
        assert "not an outlier file" in result.stderr or "expected an .npz file" in result.stderr
        assert result.stderr.count("\n") == 1


def test_help_has_an_example():
    for words in (["outliers"], ["outliers", "make"], ["outliers", "score"]):
        assert "Example:" in run(*words, "--help").stdout
