"""`fmfbench demo --json`: one document, the story beside it."""

import json

import pytest
from conftest_run import call

import fmfbench


def test_json_is_one_document_and_nothing_else(tmp_path, monkeypatch):
    pytest.importorskip("cv2")
    monkeypatch.setattr("fmfbench_cli.demo.find_spec", lambda name: None)  # as without torch
    arguments = ["demo", str(tmp_path / "demo"), "--preset", "tiny", "--json"]
    result = call(*arguments)
    document = json.loads(result.stdout)
    assert "FMF-Sim, preset tiny, seed 0: simulated" in document["data"]
    own = document["models"]["logistic baseline"]
    again = fmfbench.score(own["predictions"], fmfbench.open_dataset(document["store"]))
    assert own["score"]["metrics"] == dict(again.metrics)
    assert "1. simulate a furnace" in result.stderr
    assert "|---|" not in result.stderr
    assert "\naccuracy  " in result.stderr
    assert "no figure here says anything about the real benchmark" in result.stderr
    (tmp_path / "demo" / "notes.txt").write_text("mine")
    call(*arguments[:3], "nonsense", code=2)  # the earlier demo stays
    assert own["score"]["metrics"] == dict(fmfbench.score(own["predictions"], document["store"]).metrics)
    second = call(*arguments)
    assert "replacing what an earlier demo made" in second.stderr
    assert json.loads(second.stdout) == document
    assert (tmp_path / "demo" / "notes.txt").read_text() == "mine"


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "view.png").write_text("mine")
    result = call("demo", tmp_path / "demo", "--preset", "tiny", code=2)
    assert "expected a new or empty folder or an earlier demo's" in result.stderr
    assert [path.read_text() for path in (tmp_path / "demo").iterdir()] == ["mine"]
