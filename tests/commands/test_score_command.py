import json

import numpy as np
import pytest
from click.testing import CliRunner
from fmfbench_cli.score import command

from fmfbench.exchange.labels import Labels, write_labels


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    count = 60
    mask = rng.random((count, 3, 5)) < 0.1
    labels = Labels(
        sample_id=np.arange(count),
        recording=np.zeros(count, np.int64),
        frame=np.arange(count),
        frame_time=np.arange(count) * 40_000_000,
        split=np.ones(count, np.uint8),
        class_label=mask.any(axis=(1, 2)).astype(np.uint8),
        mask_bits=np.packbits(mask.reshape(count, -1), axis=1),
        mask_shape=(3, 5),
        recordings=("a",),
        fingerprint="ab" * 32,
    )
    score = rng.random(count)
    np.savez(tmp_path / "p.npz", sample_id=np.arange(count), score=score)
    accuracy = float(np.mean((score > 0.5) == labels.class_label))
    return tmp_path / "p.npz", write_labels(tmp_path / "labels.npz", labels), accuracy


def test_json_is_one_document_and_nothing_else(files):
    file, labels, accuracy = files
    result = CliRunner().invoke(command, [str(file), "--labels", str(labels), "--json"])
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert set(document["metrics"]) == {"accuracy", "f1", "fdr", "mdr", "miou"}
    assert document["metrics"]["accuracy"] == accuracy
    assert document["metrics"]["miou"] is None
    assert document["undefined"]["miou"] == "no mask in the file"


def test_the_limit_of_aupro_is_asked_for_and_said(files):
    file, labels, _ = files
    with np.load(file) as plain:
        pixels = np.random.default_rng(1).random((len(plain["score"]), 3, 5)).astype(np.float16)
        np.savez(file, **plain, pixel_score=pixels)
    arguments = [str(file), "--labels", str(labels), "--resamples", "50"]
    found = [
        json.loads(CliRunner().invoke(command, [*arguments, "--json", *limit]).stdout)["ranking"]
        for limit in ([], ["--aupro-limit", "1"])
    ]
    assert [each["aupro_limit"] for each in found] == [0.3, 1.0]
    assert found[0]["aupro"] < found[1]["aupro"]
    assert found[0]["pixel_auroc"] == found[1]["pixel_auroc"]
    text = CliRunner().invoke(command, [*arguments, "--aupro-limit", "0.5"]).stdout
    assert "| AUPRO, FPR to 0.5 | 0." in text


def test_the_table_spells_out_the_papers_names(files):
    file, labels, accuracy = files
    result = CliRunner().invoke(command, [str(file), "--labels", str(labels)])
    assert f"| accuracy | {accuracy:.6f}" in result.stdout
    assert "FP/(FP+TN)" in result.stdout
    assert "FN/(FN+TP)" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["FILE"], "exactly one of --data STORE and --labels FILE"),
        (["FILE", "--labels", "LABELS", "--data", "LABELS"], "exactly one of"),
        (["none.npz", "--labels", "LABELS"], "none.npz: expected an .npz file, got nothing"),
        (["FILE", "--labels", "none.npz"], "none.npz"),
        (["FILE", "--labels", "FILE"], "missing; write one with `fmfbench labels export`"),
        (["FILE", "--labels", "LABELS", "--split", "train"], "not in split train"),
        (["FILE", "--labels", "LABELS", "--aupro-limit", "0"], "AUPRO limit above 0 and at most 1, got 0"),
        (
            ["FILE", "--labels", "LABELS", "--aupro-limit", "1.5"],
            "AUPRO limit above 0 and at most 1, got 1.5",
        ),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(files, arguments, words):
    names = {"FILE": str(files[0]), "LABELS": str(files[1])}
    result = CliRunner().invoke(command, [names.get(word, word) for word in arguments])
    assert result.exception.exit_code == 2
    assert words in str(result.exception)
    assert "\n" not in str(result.exception)
    assert result.stdout == ""
