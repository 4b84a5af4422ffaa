import hashlib
import json

import numpy as np
import pytest
from click.testing import CliRunner
from conftest_scores import labels_of
from fmfbench_cli.score import command

import fmfbench
from fmfbench.exchange.labels import write_labels
from fmfbench.scoring.metrics import COUNT_METRICS


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    count = 60
    mask = rng.random((count, 3, 5)) < 0.1
    labels = labels_of(mask.any(axis=(1, 2)), mask=mask)
    score = rng.random(count)
    np.savez(tmp_path / "p.npz", sample_id=np.arange(count), score=score)
    accuracy = float(np.mean((score > 0.5) == labels.class_label))
    return tmp_path / "p.npz", write_labels(tmp_path / "labels.npz", labels), accuracy


def test_json_is_one_document_and_nothing_else(files):
    file, labels, accuracy = files
    result = CliRunner().invoke(command, [str(file), "--labels", str(labels), "--json"])
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert set(document["metrics"]) == set(COUNT_METRICS)
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
    text = CliRunner().invoke(command, [*arguments, "--aupro-limit", "0.5", "--markdown"]).stdout
    assert "| AUPRO, FPR to 0.5 | 0." in text


def test_the_summary_is_short_aligned_and_spells_out_the_papers_names(files):
    file, labels, accuracy = files
    result = CliRunner().invoke(command, [str(file), "--labels", str(labels)])
    lines = result.stdout.splitlines()
    named = [
        line for line in lines if line.startswith(("accuracy ", "FDR = FP/(FP+TN) ", "MDR = FN/(FN+TP) "))
    ]
    assert len(named) == 3
    assert f"{accuracy:.1f}" in named[0]
    assert len({line.index("0.") for line in named}) == 1
    assert len(lines) < 30
    assert "|" not in result.stdout
    assert "receipt: fmfbench" in result.stdout


def test_markdown_is_printed_or_written(files, tmp_path):
    file, labels, accuracy = files
    printed = CliRunner().invoke(command, [str(file), "--labels", str(labels), "--markdown"])
    assert f"| accuracy | {accuracy:.6f}" in printed.stdout
    written = CliRunner().invoke(
        command, [str(file), "--labels", str(labels), "--markdown", str(tmp_path / "r.md")]
    )
    assert (tmp_path / "r.md").read_text() == printed.stdout
    assert "| accuracy" not in written.stdout


def test_the_receipt_says_what_the_figures_belong_to(files):
    file, labels, _ = files
    arguments = [str(file), "--labels", str(labels), "--json", "--seed", "3"]
    first, second = (json.loads(CliRunner().invoke(command, arguments).stdout) for _ in "ab")
    assert first == second
    receipt = first["receipt"]
    assert receipt["predictions_sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert receipt["protocol_card"] == 2
    assert receipt["fmfbench"] == fmfbench.__version__
    assert receipt["fingerprint"] == "ab" * 32
    assert receipt["corrupt"] is receipt["sources_digest"] is None
    assert (receipt["split"], receipt["sample_set"]) == ("test", "every frame")
    assert (receipt["threshold"], receipt["threshold_origin"]) == (0.5, "fixed")
    assert receipt["command"] == "fmfbench score p.npz --labels labels.npz --split test --seed 3"


def test_corrupted_input_is_said_loudly(files, tmp_path):
    file, labels, _ = files
    with np.load(file) as plain:
        np.savez(tmp_path / "mist.npz", **plain, meta=np.array(json.dumps({"corrupt": "mist"})))
    arguments = [str(tmp_path / "mist.npz"), "--labels", str(labels)]
    for more in ([], ["--markdown"]):
        lines = CliRunner().invoke(command, [*arguments, *more]).stdout.splitlines()
        assert "CORRUPTED INPUT (mist)" in lines[0]
        assert any(
            "WARNING: CORRUPTED INPUT: predicted under the robustness preset mist" in line for line in lines
        )
    document = json.loads(CliRunner().invoke(command, [*arguments, "--json"]).stdout)
    assert document["receipt"]["corrupt"] == "mist"
    assert any("CORRUPTED INPUT" in text for text in document["warnings"])
    CliRunner().invoke(
        command, [*arguments, "--csv", str(tmp_path / "t.csv"), "--report", str(tmp_path / "r.html")]
    )
    assert (tmp_path / "t.csv").read_text().splitlines()[1].endswith(",mist")
    assert "CORRUPTED INPUT" in (tmp_path / "r.html").read_text()
    folder = CliRunner().invoke(command, [str(tmp_path), "--labels", str(labels)]).stdout
    assert "| mist.npz | CORRUPTED INPUT: mist |" in folder
    assert "| p.npz | clean |" in folder


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["FILE"], "exactly one of --data STORE and --labels FILE"),
        (["FILE", "--labels", "LABELS", "--data", "LABELS"], "exactly one of"),
        (["none.npz", "--labels", "LABELS"], "none.npz: expected an .npz file, got nothing"),
        (["FILE", "--labels", "none.npz"], "none.npz"),
        (["FILE", "--labels", "FILE"], "recording, split; write one with `fmfbench labels export`"),
        (["FILE", "--labels", "LABELS", "--split", "train"], "not in split train"),
        (["FILE", "--labels", "LABELS", "--aupro-limit", "0"], "AUPRO limit above 0 and at most 1, got 0"),
        (
            ["FILE", "--labels", "LABELS", "--aupro-limit", "1.5"],
            "AUPRO limit above 0 and at most 1, got 1.5",
        ),
        (
            ["FILE", "--labels", "LABELS", "--report", "x.pdf"],
            "x.pdf: expected a name for a page, ending in .html",
        ),
        (
            ["FILE", "--labels", "LABELS", "--markdown", "x.npz"],
            "x.npz: expected a name for Markdown, ending in .md",
        ),
        (
            ["FILE", "--labels", "LABELS", "--csv", "table"],
            "expected a name for CSV, ending in .csv, got no ending",
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
