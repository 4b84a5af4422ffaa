"""`fmfbench demo --json`: one document, the story beside it."""

import json

import pytest
from click.testing import CliRunner
from fmfbench_cli.main import main

import fmfbench


def test_json_is_one_document_and_nothing_else(tmp_path, monkeypatch):
    pytest.importorskip("cv2")
    monkeypatch.setattr("fmfbench_cli.demo.find_spec", lambda name: None)  # as without torch
    arguments = ["demo", str(tmp_path / "demo"), "--preset", "tiny", "--json"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert "FMF-Sim, preset tiny, seed 0: simulated" in document["data"]
    own = document["models"]["logistic baseline"]
    again = fmfbench.score(own["predictions"], fmfbench.open_dataset(document["store"]))
    assert own["score"]["metrics"] == dict(again.metrics)
    assert "1. simulate a furnace" in result.stderr
    assert "no figure here says anything about the real benchmark" in result.stderr
