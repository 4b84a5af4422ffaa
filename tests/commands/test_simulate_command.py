"""`fmfbench simulate`: options, output, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from conftest_run import invoke


def call(*arguments: Any) -> Result:
    return invoke("simulate", *arguments)


def test_writes_a_tree_and_says_so(tmp_path: Path) -> None:
    result = call(tmp_path / "a", "--preset", "tiny", "--workers", 2)
    assert result.exit_code == 0, result.output
    assert "FMF-Sim" in result.stdout
    assert "simulated" in result.stdout
    assert "FMF-Sim-1: 500 frames 24x32 in 21 s" in result.stdout
    assert (tmp_path / "a/pixel-level/videos/FMF-Sim-3.mat").is_file()
    again = call(tmp_path / "a", "--preset", "tiny")
    assert again.stdout.count("[kept]") == 3


def test_json_is_one_document(tmp_path: Path) -> None:
    result = call(tmp_path / "a", "--preset", "tiny", "--layout", "v1", "--mat", "v7", "--seed", 3, "--json")
    summary = json.loads(result.stdout)
    assert (summary["layout"], summary["mat"], summary["seed"]) == ("v1", "v7", 3)
    assert any("guard frames" in note for note in summary["notes"])


def test_twin_has_no_anomaly(tmp_path: Path) -> None:
    result = call(tmp_path / "a", "--preset", "tiny", "--twin", "--json")
    summary = json.loads(result.stdout)
    assert [own["abnormal"] for own in summary["recordings"].values()] == [0, 0, 0]
    with np.load(tmp_path / "a/truth/FMF-Sim-1.npz") as truth:
        assert json.loads(str(truth["meta"]))["anomaly_free"] is True


def test_gallery_and_clip(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    png, avi = tmp_path / "g.png", tmp_path / "c.avi"
    result = call(tmp_path / "a", "--preset", "tiny", "--gallery", png, "--clip", avi)
    assert result.exit_code == 0, result.output
    assert png.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert str(avi) in result.stdout
    assert str(png) in result.stdout


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--preset", "huge"], "expected one of tiny, small, full, got 'huge'"),
        (["--layout", "v3"], "expected one of v2, v1, recording, got 'v3'"),
        (["--mat", "v6"], "expected one of v7.3, v7, got 'v6'"),
        (["--seed", "-1"], "seed: expected 0 to"),
        (["--signature", "wild"], "expected one of mixed, calm, rough, got 'wild'"),
        (["--workers", "0"], "0 is not in the range x>=1"),
        (["--gallery", "g.gif"], "ends in .png"),
        (["--clip", "c.mp4"], "ends in .avi"),
        (["--gallery", "nowhere/g.png"], "expected an existing folder to write into, got none at nowhere"),
        (["--clip", "nowhere/c.avi"], "expected an existing folder to write into, got none at nowhere"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(tmp_path: Path, wrong: list[str], said: str) -> None:
    result = call(tmp_path / "a", "--preset", "tiny", *wrong)
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "a").exists()


def test_help_has_an_example() -> None:
    result = call("--help")
    assert result.exit_code == 0
    assert "fmfbench simulate furnace --preset small" in result.stdout
