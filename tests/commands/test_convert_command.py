"""`convert`, `info` and `view` as a user calls them.

Also tests fmfbench_cli: info, view.
Also tests fmfbench.plots: recording.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest_run import invoke as run
from fmfbench_cli.main import main

from fmfbench.plots.palette import TRUTH, rgb

DATA = Path(__file__).parents[1] / "data"


def test_convert_prints_a_summary_and_info_prints_it_again(tmp_path: Path) -> None:
    done = run("convert", DATA / "v2_tree", tmp_path / "o.zarr")
    assert done.exit_code == 0
    assert "frames  10 of 32x24 (WxH), 25.00 fps" in done.stdout
    assert "train 6, test 2, unused 2" in done.stdout
    assert "abnormal 5 (50.0%)" in done.stdout
    assert run("info", tmp_path / "o.zarr").stdout == done.stdout
    facts = json.loads(run("info", tmp_path / "o.zarr", "--json").stdout)
    assert facts["splits"] == {"train": 6, "test": 2, "unused": 2}
    assert facts["recordings"][0]["current_rate"] == 2.0


def test_dry_run_says_all_and_writes_nothing(tmp_path: Path) -> None:
    done = run("convert", DATA / "v2_h5py_v73_ragged_chunks.mat", "--dry-run", "--json")
    assert done.exit_code == 0
    facts = json.loads(done.stdout)
    assert facts["layout"] == "v2"
    assert facts["recordings"][0]["source_chunks"] is not None
    assert facts["video_bytes"] == 10 * 24 * 32 * 3
    assert run("convert", DATA / "v2_tree", tmp_path / "o.zarr", "--dry-run").exit_code == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("convert", DATA / "bad_text.mat", "o.zarr"), "a text file"),
        (("convert", DATA / "none.mat", "o.zarr"), "no such file"),
        (("convert", DATA / "v2_tree"), "expected TARGET"),
        (("convert", DATA / "v2_tree", "o.zarr", "--map", "film=x"), "--map expects OURS=THEIRS"),
        (("convert", DATA / "v2_tree", "o.zarr", "--fps", "fast"), "--fps expects"),
        (("convert", DATA / "v2_tree", "o.zarr", "--fps", "0"), "above 0"),
        (("convert", DATA / "v2_tree", "o.zarr", "--size", "64"), "--size expects WxH"),
        (("convert", DATA / "v2_tree", "o.zarr", "--time-format", "%H:%M"), "of the form"),
        (("info", DATA), "store"),
        (("info", DATA / "none.zarr"), "no such store"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: tuple, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_view_draws_frames_and_currents(awkward_store: Path, tmp_path: Path) -> None:
    from matplotlib.image import imread

    out = tmp_path / "out.png"
    assert run("view", awkward_store, "-o", out).exit_code == 0
    picture = imread(out)
    assert picture.shape[0] > 400
    green = np.all(np.abs(picture[..., :3] - np.array(rgb(TRUTH)) / 255) < 0.02, axis=-1)
    assert green.sum() > 100
    assert run("view", awkward_store, "--recording", "c-short", "--frames", "3", "-o", out).exit_code == 0
    for arguments, message in [
        (("--recording", "x"), "recordings a.dotted, b-long, c-short, got 'x'"),
        (("--frames", "0:9:x"), "a:b:step"),
        (("--frames", "0:300:1"), "expected 1 to 60"),
        (("--frames", "5000"), "a:b:step or one frame below 330"),
    ]:
        done = run("view", awkward_store, *arguments, "-o", out)
        assert done.exit_code == 2
        assert message in done.stderr
    assert run("view", awkward_store, "-o", tmp_path / "o.txt").exit_code == 2
    assert run("view", awkward_store, "-o", tmp_path / "no" / "o.png").exit_code == 2


def test_every_command_has_help_with_an_example_and_is_in_the_readme() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    for name in main.list_commands(None):
        done = run(name, "--help")
        assert done.exit_code == 0, done.output
        assert f"fmfbench {name}" in done.output, f"{name} has no example"
        assert f"fmfbench {name}" in readme, f"{name} is not in the README"


def test_the_console_script_is_installed() -> None:
    script = Path(sys.executable).with_name("fmfbench")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert "fmfbench, version" in done.stdout
