"""A board scores again, compares, and writes pages that stand alone.

Also tests fmfbench.board: comparison, page, several.
Also tests fmfbench_cli: board.
"""

from __future__ import annotations

import csv
import json
import re

import numpy as np
import pytest
from conftest_board import bundle_of, members_of, predictions, put_together
from conftest_html import Page
from conftest_run import call
from conftest_scores import build_data

import fmfbench
from fmfbench.board.board import make_board
from fmfbench.board.bundle import read_bundle, write_bundle
from fmfbench.errors import InputError, PredictionError
from fmfbench.exchange.labels import read_labels
from fmfbench.exchange.predictions import write_predictions
from fmfbench.scoring.compare import compare
from fmfbench.scoring.receipt import INTERVAL_RULE
from fmfbench.scoring.score import score


@pytest.fixture(scope="module")
def board(bundles, board_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("board") / "board"
    return folder, make_board(bundles, board_data, folder, resamples=200)


def test_the_same_bundle_gives_the_same_bytes(bundles, board_data, tmp_path):
    path = bundle_of(tmp_path, predictions(tmp_path, board_data, "alpha", 0), board_data,
                     {"parameters": 1234567, "train_seconds": 12.5})  # fmt: skip
    assert path.read_bytes() == bundles[0].read_bytes()


def test_board_json_holds_what_the_scores_say(board, bundles, board_data):
    folder, made = board
    document = json.loads((folder / "board.json").read_text())
    assert document == json.loads(json.dumps(made.to_dict()))
    assert [row["model"] for row in document["rows"]] == ["alpha", "beta", "gamma", "alpha"]
    for row, path in zip(document["rows"], bundles, strict=True):
        bundle = read_bundle(path)
        assert row["metrics"]["accuracy"] == bundle.score["metrics"]["accuracy"]
        assert row["intervals"]["f1"] == bundle.score["intervals"]["f1"]
        assert row["receipt"]["predictions_sha256"] == bundle.receipt["predictions_sha256"]
        assert row["facts"]["parameters"] == bundle.card.get("parameters")
    assert document["rows"][3]["corrupt"] == "video-missing"
    assert document["fingerprint"] == board_data.fingerprint


def test_the_comparison_is_of_clean_rows_and_wider_than_one_pair_alone(board, bundles, board_data, tmp_path):
    document = json.loads((board[0] / "board.json").read_text())
    pairs = document["comparison"]["accuracy"]
    assert sorted(pairs["models"]) == ["alpha", "beta", "gamma"]
    assert pairs["values"] == sorted(pairs["values"], reverse=True)
    files = [predictions(tmp_path, board_data, name, seed) for seed, name in enumerate(("alpha", "beta"))]
    alone = compare(*files, board_data, resamples=200).rows["accuracy"]
    a, b = (pairs["models"].index(name) for name in ("alpha", "beta"))
    assert pairs["difference"][a][b] == pytest.approx(alone["difference"])
    assert pairs["high"][a][b] - pairs["low"][a][b] > alone["high"] - alone["low"]


def test_the_page_stands_alone(board):
    folder, _ = board
    text = (folder / "index.html").read_text()
    page = Page(text)
    assert "://" not in text
    assert '<meta name="viewport"' in text
    assert all((folder / link).is_file() for link in page.links)
    assert {"board.json", "board.csv", "board.md", "reports/alpha.html"} <= set(page.links)
    assert "accuracy, video lost" in text
    assert "CORRUPTED INPUT: video-missing" in text
    assert "1,234,567" in text
    assert "What a receipt proves" in text


def test_csv_and_markdown_say_the_same(board):
    folder, made = board
    rows = list(csv.DictReader((folder / "board.csv").read_text().splitlines()))
    for row in made.rows:
        own = [r for r in rows if r["bundle"] == row.bundle.path.name and r["metric"] == "accuracy"]
        assert [float(r["value"]) for r in own] == [row.score.metrics["accuracy"]]
    text = (folder / "board.md").read_text()
    assert text.count("| alpha |") == 2
    assert "CORRUPTED INPUT: video-missing" in text
    assert "cannot be told apart" in text


def test_a_bundle_that_is_scored_as_predictions_names_the_board(bundles, board_data):
    with pytest.raises(
        PredictionError, match="got a bundle; `fmfbench board` scores bundles again"
    ) as caught:
        score(bundles[0], board_data, "test")
    assert "sample_id" not in str(caught.value)


def test_labels_alone_are_enough(bundles, board_labels, tmp_path):
    made = make_board(bundles[:2], board_labels, tmp_path / "b", reports=False, resamples=40)
    assert not (tmp_path / "b" / "reports").exists()
    assert len(made.rows) == 2


def test_one_that_was_remade_consistently_is_scored_again_and_its_name_is_a_claim(
    bundles, board_labels, tmp_path
):
    members = members_of(bundles[0])
    card = json.loads(members["card.json"]) | {"model": "<b>the best</b>", "parameters": 3}
    path = put_together(tmp_path / "x.fmfb", members | {"card.json": json.dumps(card).encode()}, rehash=True)
    made = make_board([path], board_labels, tmp_path / "b", reports=False, resamples=40)
    assert made.rows[0].model == "<b>the best</b>"
    assert made.rows[0].score.metrics["accuracy"] == read_bundle(bundles[0]).score["metrics"]["accuracy"]
    text = (tmp_path / "b" / "index.html").read_text()
    assert "<b>the best</b>" not in text
    assert "&lt;b&gt;the best&lt;/b&gt;" in text


def test_all_refused_are_named_and_an_earlier_board_stays(bundles, board_labels, tmp_path):
    make_board(bundles[:1], board_labels, tmp_path / "b", reports=False, resamples=40)
    before = (tmp_path / "b" / "board.json").read_bytes()
    for name, junk in (("one.fmfb", b"x"), ("two.fmfb", b"PK\x05\x06" + bytes(18))):
        (tmp_path / name).write_bytes(junk)
    paths = [bundles[1], tmp_path / "one.fmfb", tmp_path / "two.fmfb", tmp_path / "none.fmfb"]
    with pytest.raises(InputError, match=r"3 of 4 bundles refused.*one\.fmfb.*two\.fmfb.*none\.fmfb"):
        make_board(paths, board_labels, tmp_path / "b", reports=False)
    assert (tmp_path / "b" / "board.json").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b", "one.fmfb", "two.fmfb"]


def test_the_same_predictions_twice_are_refused(bundles, board_labels, tmp_path):
    copy = tmp_path / "copy.fmfb"
    copy.write_bytes(bundles[0].read_bytes())
    with pytest.raises(InputError, match="holds the same predictions as"):
        make_board([bundles[0], copy], board_labels, tmp_path / "b", reports=False)


def test_other_data_and_mixed_sample_sets_are_refused(bundles, board_data, board_labels, tmp_path):
    other = build_data(4, lengths=(900, 700))
    other.fingerprint = "beef" * 16
    with pytest.raises(InputError, match="fingerprint"):
        make_board(bundles[:1], other, tmp_path / "b", reports=False)
    labels = read_labels(board_labels).select("train")
    rng = np.random.default_rng(0)
    path = write_predictions(tmp_path / "t.npz", sample_id=labels.sample_id, score=rng.random(len(labels)))
    options = {"context": None, "protocol": None, "resamples": 40, "block_seconds": None, "seed": 0,
               "per_second": False, "aupro_limit": 0.3}  # fmt: skip
    train = write_bundle(tmp_path / "t.fmfb", path, score(path, board_data, "train", **options), options)
    with pytest.raises(InputError, match="one split and sample set"):
        make_board([bundles[0], train], board_data, tmp_path / "b", reports=False)
    assert not (tmp_path / "b").exists()


def test_folders_that_are_no_boards_are_left_alone(bundles, board_labels, tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match="an earlier board"):
        make_board(bundles[:1], board_labels, tmp_path / "b")
    with pytest.raises(InputError, match="existing folder"):
        make_board(bundles[:1], board_labels, tmp_path / "none" / "b")
    assert [p.name for p in (tmp_path / "b").iterdir()] == ["thesis.tex"]


def test_what_cannot_be_repeated_is_not_bundled(board_data, tmp_path):
    path = predictions(tmp_path, board_data, "alpha", 0)
    options = {"resamples": 40}
    with pytest.raises(InputError, match="compat"):
        write_bundle(tmp_path / "x.fmfb", path, score(path, board_data, compat="official"), options)
    with pytest.raises(PredictionError, match=r"ending in \.fmfb"):
        write_bundle(tmp_path / "x.zip", path, score(path, board_data, resamples=40), options)
    made = score(path, board_data, resamples=40)
    predictions(tmp_path, board_data, "alpha", 1)
    with pytest.raises(PredictionError, match="score again"):
        write_bundle(tmp_path / "x.fmfb", path, made, options)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["alpha.npz"]


def test_the_commands(board_data, board_labels, tmp_path):
    files = [predictions(tmp_path, board_data, name, seed) for seed, name in enumerate("ab")]
    for path in files:
        arguments = [
            "score",
            path,
            "--labels",
            board_labels,
            "--resamples",
            "40",
            "--bundle",
            path.with_suffix(".fmfb"),
        ]
        call(*arguments)
    arguments = [
        "board",
        *(path.with_suffix(".fmfb") for path in files),
        "--data",
        board_labels,
        "-o",
        tmp_path / "out",
    ]
    done = call(*arguments, "--json", "--no-reports")
    assert [row["model"] for row in json.loads(done.stdout)["rows"]] == ["a", "b"]
    files[0].with_suffix(".fmfb").write_bytes(b"junk")
    failed = call(*arguments, code=2)
    assert failed.stderr.startswith("Error: board: 1 of 2 bundles refused")
    refused = call("score", files[0], "--labels", board_labels, "--run", tmp_path, code=2)
    assert "expected --bundle, which the facts go into, got --run alone" in refused.stderr


@pytest.mark.parametrize(
    ("claimed", "shown"),
    [
        ("a\ud800b\n\x1b[31m c", "a?b ?[31m c"),
        ("n" * 500, "n" * 80),
        ("  ", "x"),
        (7, "x"),
        ("a|b,c", "a|b,c"),
    ],
)
def test_names_of_strangers_cannot_break_a_terminal_or_a_table(
    bundles, board_labels, tmp_path, claimed, shown
):
    members = members_of(bundles[0])
    card = json.loads(members["card.json"]) | {"model": claimed}
    path = put_together(tmp_path / "x.fmfb", members | {"card.json": json.dumps(card).encode()}, rehash=True)
    made = make_board([path], board_labels, tmp_path / "b", reports=False, resamples=40)
    assert made.rows[0].model == shown
    table = [line for line in made.to_markdown().splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1
    assert next(csv.DictReader((tmp_path / "b" / "board.csv").read_text().splitlines()))["model"] == shown


def of_version(bundle, out, version, card=None, rule=None):
    """The bundle, consistently made anew as if another version had made it."""
    members = members_of(bundle)
    receipt, told = (json.loads(members[name]) for name in ("receipt.json", "score.json"))
    for each in (receipt["receipt"], told["receipt"]):
        each["fmfbench"] = version
        if card is not None:
            each["protocol_card"] = card
        if rule is not None:
            each["interval_rule"] = rule
        if rule == "none":
            del each["interval_rule"]
    new = {"receipt.json": json.dumps(receipt).encode(), "score.json": json.dumps(told).encode()}
    return put_together(out, members | new, rehash=True)


@pytest.mark.parametrize("version", ["0.0.9", "0.1.0a3", "0.1.0rc1", "0.0.1.dev5+local"])
def test_an_earlier_version_of_the_same_card_is_scored_again_with_a_remark(
    bundles, board_labels, tmp_path, version
):
    path = of_version(bundles[0], tmp_path / "x.fmfb", version)
    made = make_board([path, bundles[1]], board_labels, tmp_path / "b", reports=False, resamples=40)
    assert made.rows[0].score.metrics == read_bundle(bundles[0]).score["metrics"]
    document = json.loads((tmp_path / "b" / "board.json").read_text())
    assert [len(row["remarks"]) for row in document["rows"]] == [1, 0]
    assert (
        f"made by fmfbench {version} with interval rule {INTERVAL_RULE}, scored again by"
        in document["rows"][0]["remarks"][0]
    )
    assert f"made by fmfbench {version}" in (tmp_path / "b" / "index.html").read_text()


@pytest.mark.parametrize("version", ["99.0.0", "0.1.0x", "0.1.", "", 3, None, "1" * 400, "0.1.0 <b>"])
def test_later_versions_and_what_is_no_version_are_refused(bundles, board_labels, tmp_path, version):
    path = of_version(bundles[0], tmp_path / "x.fmfb", version)
    with pytest.raises(InputError, match=r"1 of 1 bundles refused.*expected a (bundle|version) of fmfbench"):
        make_board([path], board_labels, tmp_path / "b", reports=False, resamples=40)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("card", [1, 3, "2", True])
def test_another_protocol_card_is_refused_whatever_the_version(bundles, board_labels, tmp_path, card):
    path = of_version(bundles[0], tmp_path / "x.fmfb", "0.0.9", card)
    with pytest.raises(InputError, match="expected a bundle of protocol_card"):
        make_board([path], board_labels, tmp_path / "b", reports=False, resamples=40)


def test_an_earlier_version_whose_figures_are_others_is_refused(bundles, board_labels, tmp_path):
    path = of_version(bundles[0], tmp_path / "x.fmfb", "0.0.9")
    members = members_of(path)
    told = json.loads(members["score.json"])
    told["intervals"]["accuracy"]["low"] -= 0.01  # as an earlier way of computing them may have given
    path = put_together(path, members | {"score.json": json.dumps(told).encode()}, rehash=True)
    with pytest.raises(InputError, match=r"differs in intervals\.accuracy\.low; made by fmfbench 0\.0\.9"):
        make_board([path], board_labels, tmp_path / "b", reports=False, resamples=40)


def test_a_bundle_without_a_figure_of_today_is_told_to_be_made_again(bundles, board_labels, tmp_path):
    members = members_of(bundles[0])
    score = json.loads(members["score.json"])
    del score["metrics"]["f1"], score["intervals"]["f1"]
    for change, told in ((0.0, r"; it says nothing of these.*: make it again with it"), (0.01, "")):
        score["metrics"]["accuracy"] -= change  # one that says something else as well may be anything
        path = put_together(
            tmp_path / "x.fmfb", members | {"score.json": json.dumps(score).encode()}, rehash=True
        )
        with pytest.raises(InputError, match=rf"differs in .*metrics\.f1{told}$"):
            make_board([path], board_labels, tmp_path / "b", reports=False, resamples=40)


@pytest.mark.parametrize(("rule", "number"), [("none", 1), (1, 1)])
def test_another_interval_rule_is_named_where_figures_differ(bundles, board_labels, tmp_path, rule, number):
    here = fmfbench.__version__
    path = of_version(bundles[0], tmp_path / "x.fmfb", here, rule=rule)
    made = make_board([path], board_labels, tmp_path / "b", reports=False, resamples=40)
    told = f"made by fmfbench {here} with interval rule {number}, scored again by {here} with interval rule"
    assert told in made.rows[0].remarks[0]  # its figures are still ours
    members = members_of(path)
    score = json.loads(members["score.json"])
    score["intervals"]["f1"]["high"] += 0.01
    path = put_together(path, members | {"score.json": json.dumps(score).encode()}, rehash=True)
    with pytest.raises(
        InputError, match=rf"differs in intervals\.f1\.high; {re.escape(told)} \d+: make it again"
    ):
        make_board([path], board_labels, tmp_path / "c", reports=False, resamples=40)


@pytest.mark.parametrize("rule", [0, -1, 10**6, "2", True, 2.0, None])
def test_later_interval_rules_and_what_is_none_are_refused(bundles, board_labels, tmp_path, rule):
    path = of_version(bundles[0], tmp_path / "x.fmfb", fmfbench.__version__, rule="none")
    members = members_of(path)
    receipt, told = (json.loads(members[name]) for name in ("receipt.json", "score.json"))
    for each in (receipt["receipt"], told["receipt"]):
        each["interval_rule"] = rule
    new = {"receipt.json": json.dumps(receipt).encode(), "score.json": json.dumps(told).encode()}
    path = put_together(path, members | new, rehash=True)
    with pytest.raises(InputError, match="expected a bundle of interval rule"):
        make_board([path], board_labels, tmp_path / "b", reports=False, resamples=40)


def test_what_nobody_stated_is_not_known(board):
    text = (board[0] / "index.html").read_text()
    for title in ("parameters", "training (s)", "latency (ms)"):
        assert f"<button>{title}</button>" in text
    unknown = sum(value is None for row in board[1].to_dict()["rows"] for value in row["facts"].values())
    assert 4 < unknown == text.count(">not known<")


def test_models_of_one_name_are_told_apart_by_their_files(board_data, board_labels, tmp_path):
    made = [
        bundle_of(tmp_path, predictions(tmp_path, board_data, name, seed, model=model), board_data)
        for seed, (name, model) in enumerate((("run-1", "same"), ("run-2", "same"), ("run-3", "other")))
    ]
    make_board(made, board_labels, tmp_path / "b", reports=False, resamples=40)
    text = (tmp_path / "b" / "index.html").read_text()
    for title in ("Who can be told apart", "Accuracy by recording", "Accuracy by time from an onset"):
        part = text.split(f"<h2>{title}</h2>")[1].split("<h2>")[0]
        assert {"same (run-1)", "same (run-2)", "other"} <= set(re.findall(r">([^<>]+)<", part))
    assert text.count("<small>run-1</small>") == text.count("<small>run-2</small>") == 1
    assert "<small>run-3</small>" not in text
    assert '<details class="matrix" open>' in text  # of few models, their differences are shown at once


def test_rows_of_all_tables_stand_in_one_order(board):
    document = json.loads((board[0] / "board.json").read_text())
    order = [
        row["model"]
        for row in sorted(document["rows"], key=lambda row: -row["metrics"]["accuracy"])
        if not row["corrupt"]
    ]
    text = (board[0] / "index.html").read_text()
    for title in ("Accuracy by recording", "Accuracy by time from an onset"):
        part = text.split(f"<h2>{title}</h2>")[1].split("<h2>")[0]
        assert [name for name in re.findall(r">([^<>]+)<", part) if name in order] == order
